import { RegistryError } from "./errors.ts";

type RawHeaders = Readonly<Record<string, string | readonly string[] | undefined>>;

/** The headers of an answer, by lower-case name. */
export class ReplyHeaders {
  readonly #raw: RawHeaders;

  constructor(raw: RawHeaders) {
    this.#raw = raw;
  }

  /**
   * The value of a header that may stand once. Two different values are refused with `ERR_REGISTRY_PROTOCOL`: two
   * readers would believe two things (a Location, a digest, a length).
   */
  one(name: string): string | undefined {
    const value = this.#raw[name];
    if (value === undefined || typeof value === "string") return value;
    if (new Set(value).size > 1) throw new RegistryError("ERR_REGISTRY_PROTOCOL", { message: `the answer has the header ${name} twice` });
    return value[0];
  }

  /** All values of a header that may stand several times. */
  all(name: string): readonly string[] {
    const value = this.#raw[name];
    if (value === undefined) return [];
    return typeof value === "string" ? [value] : value;
  }

  /** The media type without its parameters, lower case; empty when there is none. */
  mediaType(): string {
    const [type = ""] = (this.one("content-type") ?? "").split(";");
    return type.trim().toLowerCase();
  }

  /** Content-Length as a safe integer. */
  contentLength(): number | undefined {
    const text = this.one("content-length");
    if (text === undefined || !/^\d{1,15}$/.test(text)) return undefined;
    return Number(text);
  }
}
