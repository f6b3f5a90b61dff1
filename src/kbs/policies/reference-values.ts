import { decodeBase64, parseJson } from "../../bytes/index.ts";
import { KbsError } from "../errors.ts";
import type { SealedRecords } from "../keys/sealed-records.ts";
import { isObject } from "../protocol/shape.ts";

/** A measurement or version that is known to be good. */
export interface ReferenceValue {
  readonly name: string;
  readonly value: unknown;
  /** RFC 3339; not used from then on. */
  readonly expiresAt: string;
  readonly createdAt: string;
  readonly createdBy: string;
}

const record = "system/reference-values";
const nameGrammar = /^[A-Za-z0-9_][A-Za-z0-9_.:-]{0,127}$/;
/** Life of a value when whoever registers it does not say. Source: Trustee, reference value provider service. */
const defaultLifetimeMs = 365 * 24 * 3600 * 1000;
const maxValues = 10_000;

/**
 * The reference values of a service. Unlike at the peer, an expired value is not used any more.
 */
export class ReferenceValues {
  readonly #records: SealedRecords;
  #document: unknown;
  #parsed: ReadonlyMap<string, ReferenceValue> = new Map();

  constructor(records: SealedRecords) {
    this.#records = records;
  }

  /** Everything that is registered, expired or not, by name. */
  async list(): Promise<readonly ReferenceValue[]> {
    return [...(await this.#values()).values()];
  }

  /** A lookup over the values that are valid now, from one reading of the store. */
  async lookup(now: Date): Promise<(name: string) => unknown> {
    const values = await this.#values();
    return (name) => {
      const found = values.get(name);
      return found === undefined || new Date(found.expiresAt) <= now ? undefined : found.value;
    };
  }

  /** A record that is kept open gives the same document for every piece of evidence, and may hold ten thousand values. */
  async #values(): Promise<ReadonlyMap<string, ReferenceValue>> {
    const document = (await this.#records.read(record))?.value;
    if (document !== this.#document) {
      this.#parsed = parseValues(document);
      this.#document = document;
    }
    return this.#parsed;
  }

  /** Registers values, replacing those of the same name. Throws `ERR_KBS_REQUEST_REFUSED`. */
  async register(
    values: Readonly<Record<string, unknown>>,
    by: { readonly subject: string; readonly now: Date; readonly expiresAt?: Date | undefined },
  ): Promise<void> {
    for (const name of Object.keys(values)) {
      if (!nameGrammar.test(name)) throw refused(`${JSON.stringify(name.slice(0, 80))} is not the name of a reference value`);
    }
    const expiresAt = (by.expiresAt ?? new Date(by.now.getTime() + defaultLifetimeMs)).toISOString();
    await this.#records.edit(record, (existing) => {
      const merged = parseValues(existing);
      for (const [name, value] of Object.entries(values)) {
        merged.set(name, { name, value, expiresAt, createdAt: by.now.toISOString(), createdBy: by.subject });
      }
      if (merged.size > maxValues) throw refused(`more than ${maxValues} reference values`);
      return { format: "ociseal-kbs-reference-values/1", values: [...merged.values()] };
    });
  }

  async remove(name: string): Promise<"removed" | "absent"> {
    let outcome: "removed" | "absent" = "absent";
    await this.#records.edit(record, (existing) => {
      const merged = parseValues(existing);
      outcome = merged.delete(name) ? "removed" : "absent";
      return { format: "ociseal-kbs-reference-values/1", values: [...merged.values()] };
    });
    return outcome;
  }
}

/**
 * The values in a message as Trustee's clients send it: `{version, type: "sample", payload}` with base64 of
 * `{name: value}`; the member is `provenance` in its documentation. Throws `ERR_KBS_REQUEST_REFUSED`.
 */
export function parseReferenceMessage(body: Uint8Array, limits: { readonly maxBytes: number }): Readonly<Record<string, unknown>> {
  const message = parseJson(body, { maxBytes: limits.maxBytes, maxDepth: 4, subject: "the body" });
  if (!isObject(message)) throw refused("the body is not a JSON object");
  const { version, type } = message;
  if (version !== "0.1.0") throw refused("the message has a version other than 0.1.0");
  if (type !== "sample")
    throw refused(`reference values of type ${JSON.stringify(type)?.slice(0, 40)} are not supported (expected "sample")`);
  const payload = message["payload"] ?? message["provenance"];
  if (typeof payload !== "string") throw refused("the message has no text member payload");
  const values = parseJson(decodeBase64(payload, "payload"), { maxBytes: limits.maxBytes, maxDepth: 16, subject: "the payload" });
  if (!isObject(values)) throw refused("the payload is not a JSON object of names and values");
  return values;
}

function parseValues(document: unknown): Map<string, ReferenceValue> {
  const values = new Map<string, ReferenceValue>();
  if (document === undefined) return values;
  if (!isObject(document) || !Array.isArray(document["values"])) throw corrupt();
  for (const entry of document["values"]) {
    if (!isObject(entry)) throw corrupt();
    const { name, value, expiresAt, createdAt, createdBy } = entry;
    if (typeof name !== "string" || typeof expiresAt !== "string" || typeof createdAt !== "string" || typeof createdBy !== "string")
      throw corrupt();
    values.set(name, { name, value, expiresAt, createdAt, createdBy });
  }
  return values;
}

function corrupt(): KbsError {
  return new KbsError("ERR_KBS_RECORD_CORRUPT", { message: `the record ${record} has a format that this version does not know` });
}

function refused(message: string): KbsError {
  return new KbsError("ERR_KBS_REQUEST_REFUSED", { message });
}
