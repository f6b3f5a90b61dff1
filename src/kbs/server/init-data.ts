import { createHash } from "node:crypto";
import { parse } from "smol-toml";
import { parseJson } from "../../bytes/index.ts";
import { KbsError } from "../errors.ts";
import type { InitData } from "../protocol/messages.ts";
import { isObject } from "../protocol/shape.ts";

const maxSize = 1 << 20;
const algorithms = ["sha256", "sha384", "sha512"];

/**
 * Reads an init-data document: the digest over its whole text, and its `[data]` as claims.
 *
 * `aa.toml` and `cdh.toml` become objects; a `policy.rego` that ends in `policy_data := {…}` is replaced by that object as
 * `agent_policy_claims`. Throws `ERR_KBS_REQUEST_REFUSED`. Source: CoCo initdata specification; Trustee, `init_data`.
 */
export function parseInitDataDocument(initData: InitData): { readonly digest: Buffer; readonly claims: Readonly<Record<string, unknown>> } {
  if (Buffer.byteLength(initData.body) > maxSize) throw refused(`has more than ${maxSize} bytes`);
  const document = parseToml(initData.body, "init-data");
  const { algorithm, data, version } = document;
  if (typeof version !== "string") throw refused("has no text member version");
  if (typeof algorithm !== "string" || !algorithms.includes(algorithm))
    throw refused(`has an algorithm other than ${algorithms.join(", ")}`);
  if (!isObject(data)) throw refused("has no table data");
  const claims: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(data)) {
    if (typeof value !== "string") throw refused(`has an entry ${JSON.stringify(name.slice(0, 80))} that is not a text`);
    if (name === "aa.toml" || name === "cdh.toml") claims[name] = parseToml(value, name);
    else if (name === "policy.rego") {
      const policyData = policyDataIn(value);
      if (policyData === undefined) claims[name] = value;
      else claims["agent_policy_claims"] = policyData;
    } else claims[name] = value;
  }
  return { digest: createHash(algorithm).update(initData.body, "utf8").digest(), claims };
}

function parseToml(text: string, what: string): Readonly<Record<string, unknown>> {
  try {
    // Dates and big integers of TOML have no JSON form of their own: the claims must be plain JSON.
    return JSON.parse(JSON.stringify(parse(text))) as Readonly<Record<string, unknown>>;
  } catch (cause) {
    throw refused(`is not TOML where it should be (${what})`, cause);
  }
}

function policyDataIn(rego: string): unknown {
  const marker = "policy_data := {";
  const start = rego.indexOf(marker);
  if (start < 0) return undefined;
  try {
    return parseJson(rego.slice(start + marker.length - 1).trimEnd(), { maxBytes: maxSize });
  } catch {
    // Not the form that the rule is about: the text stays as it is.
    return undefined;
  }
}

function refused(what: string, cause?: unknown): KbsError {
  return new KbsError("ERR_KBS_REQUEST_REFUSED", { message: `the init-data document ${what}`, cause });
}
