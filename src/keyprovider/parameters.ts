import { parseKbsUri } from "../keywrap/index.ts";
import { badParameter } from "./errors.ts";

/** Where a key encryption key is to be kept; without a tag one is made up, once for a run. */
export interface KeyPlace {
  readonly repository: string;
  readonly type: string;
  readonly tag: string | undefined;
}

/** What the text after `provider:NAME:` asks for. */
export type WrapTarget =
  /** A key that the Key Broker Service makes or has. */
  | { readonly kind: "brokered"; readonly place: KeyPlace }
  /** A key in a file, to be registered under this name. */
  | { readonly kind: "file"; readonly place: KeyPlace; readonly path: string }
  /** CoCo's built-in key, known to everybody. */
  | { readonly kind: "sample" };

/** Where coco_keyprovider puts keys when nothing is said. Source: guest-components `coco_keyprovider/src/enc_mods`. */
const defaultPlace: KeyPlace = { repository: "default", type: "image-kek", tag: undefined };
/** What ocicrypt sends where nothing follows the provider's name. Source: ocicrypt `helpers/parse_helpers`. */
const nothingSaid = new Set(["", "Enabled"]);
const known: ReadonlySet<string> = new Set(["sample", "keyid", "keypath", "algorithm"]);

/**
 * Reads the parameters of a run. A bare `kbs:///repository/type[/tag]`, or coco_keyprovider's pairs
 * `keyid=…::keypath=…::algorithm=…`; anything else is refused, where coco_keyprovider drops it in silence and wraps
 * under a key that nobody keeps. Throws `ERR_KEYPROVIDER_PARAMETER`, `ERR_KEYWRAP_KBS_URI_MALFORMED`.
 */
export function parseWrapTarget(parameters: readonly string[]): WrapTarget {
  const [text = "", ...more] = [...new Set(parameters)];
  if (more.length > 0) {
    throw badParameter(
      `${more.length + 1} recipients are given for one provider (expected one: the reply holds one wrapped key)`,
      "encrypt for one, then add the others with ociseal rewrap --add",
    );
  }
  if (nothingSaid.has(text)) return { kind: "brokered", place: defaultPlace };
  if (/^kbs(?:\+[a-z]+)?:/.test(text)) return { kind: "brokered", place: parsePlace(text) };
  return parsePairs(text);
}

function parsePairs(text: string): WrapTarget {
  const pairs = new Map<string, string>();
  for (const item of text.split("::")) {
    const at = item.indexOf("=");
    const name = at < 0 ? item : item.slice(0, at);
    const value = at < 0 ? (name === "sample" ? "true" : undefined) : item.slice(at + 1);
    if (value === undefined || !known.has(name)) throw badParameter(`not a parameter of a key provider: ${shown(item)}`);
    if (pairs.has(name)) throw badParameter(`the parameter ${name} is given twice`);
    pairs.set(name, value);
  }
  checkAlgorithm(pairs.get("algorithm"));
  const keyId = pairs.get("keyid");
  const path = pairs.get("keypath");
  if (isSample(pairs.get("sample"))) {
    if (keyId !== undefined || path !== undefined) throw badParameter("sample goes with neither keyid nor keypath");
    return { kind: "sample" };
  }
  const place = keyId === undefined ? defaultPlace : parsePlace(keyId.startsWith("/") ? `kbs://${keyId}` : keyId);
  if (path === "") throw badParameter("keypath is empty");
  return path === undefined ? { kind: "brokered", place } : { kind: "file", place, path };
}

function isSample(value: string | undefined): boolean {
  if (value === undefined || value === "false") return false;
  if (value === "true") return true;
  throw badParameter(`sample is true or false, not ${shown(value)}`);
}

/** CTR is read, and never written: it is not authenticated, and every reader of one knows the other. */
function checkAlgorithm(algorithm: string | undefined): void {
  if (algorithm === undefined || algorithm === "A256GCM") return;
  throw badParameter(
    `the wrapping algorithm ${shown(algorithm)} is not written (expected A256GCM)`,
    "leave algorithm out: every guest that reads A256CTR reads A256GCM too, and only that is authenticated",
  );
}

function parsePlace(uri: string): KeyPlace {
  const path = uri.replace(/^kbs(?:\+resource)?:\/\/[^/?#]*/, "");
  if (path.split("/").length !== 3) return parseKbsUri(uri);
  return { ...parseKbsUri(`${uri}/tag`), tag: undefined };
}

function shown(text: string): string {
  return JSON.stringify(text.slice(0, 120));
}
