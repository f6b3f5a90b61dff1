import { parseJson } from "../../bytes/index.ts";
import type { CallOptions } from "../../store/index.ts";
import type { JsonObject } from "../shape.ts";
import { checkedSigner, keyServiceError } from "./checked-signer.ts";
import { runKeyProgram } from "./key-program.ts";
import { loadPublicKey } from "./public-key.ts";
import type { KeySigner } from "./signer.ts";

/** Environment and place of a KMS plugin. */
export interface PluginAccess {
  /** The plugin's whole environment: it finds its credentials there. */
  readonly env: Readonly<Record<string, string | undefined>>;
  /** `sigstore-kms-<scheme>` on PATH unless told. */
  readonly program?: string | undefined;
}

const grammar = /^([a-z][a-z0-9-]{0,60}):\/\/(.{1,2000})$/;
const maxAnswerBytes = 1024 * 1024;
/** As cosign 2.5 and 3.1 say it. */
const protocolVersion = "v1";
/** Go's crypto.SHA256, as the protocol numbers hashes. */
const sha256 = 5;

/**
 * A signer over a key that a cosign KMS plugin reaches: `NAME://KEY` runs `sigstore-kms-NAME`, protocol v1. This
 * is how the clouds' key services are used without their libraries. Throws `ERR_KEY_SERVICE`.
 * Source: sigstore/sigstore pkg/signature/kms/cliplugin.
 */
export async function openPluginSigner(reference: string, access: PluginAccess, options: CallOptions = {}): Promise<KeySigner> {
  const [, scheme, keyResourceID] = grammar.exec(reference) ?? [];
  if (scheme === undefined || keyResourceID === undefined)
    throw keyServiceError(`${reference.slice(0, 120)} is not the URI of a key`, "write NAME://KEY for the plugin sigstore-kms-NAME");
  const plugin: Plugin = { reference, program: access.program ?? `sigstore-kms-${scheme}`, keyResourceID, env: access.env };
  const answer = await invoke(plugin, "publicKey", { publicKeyOptions: { rpcOptions: {} } }, Buffer.alloc(0), options);
  const publicKey = loadPublicKey({ bytes: bytesIn(answer, "publicKeyPEM", reference), source: reference });
  return checkedSigner(publicKey, async (message, signOptions = {}) => {
    const method = { signOptions: { rpcOptions: {}, messageOptions: {} } };
    return bytesIn(await invoke(plugin, "signMessage", method, message, signOptions), "signature", reference);
  });
}

interface Plugin {
  readonly reference: string;
  readonly program: string;
  readonly keyResourceID: string;
  readonly env: PluginAccess["env"];
}

async function invoke(
  { reference, program, keyResourceID, env }: Plugin,
  methodName: string,
  method: JsonObject,
  input: Uint8Array,
  { signal }: CallOptions,
): Promise<JsonObject> {
  const initOptions = { protocolVersion, keyResourceID, hashFunc: sha256, rpcOptions: {} };
  const args = [protocolVersion, JSON.stringify({ initOptions, methodName, [methodName]: method })];
  const { stdout, stderr, code } = await runKeyProgram({
    program,
    args,
    env,
    input,
    subject: reference,
    ...(signal === undefined ? {} : { signal }),
  });
  let answer: JsonObject;
  try {
    answer = parseJson(stdout, { maxBytes: maxAnswerBytes, subject: `answer of ${program}` }) as JsonObject;
  } catch (cause) {
    throw keyServiceError(
      `${reference}: ${program} ended with ${code} and answered no JSON${stderr === "" ? "" : ` (${stderr})`}`,
      undefined,
      cause,
    );
  }
  const { errorMessage } = answer;
  if (typeof errorMessage === "string" && errorMessage !== "")
    throw keyServiceError(`${reference}: ${program} says: ${errorMessage.slice(0, 400)}`);
  const result = answer[methodName];
  if (typeof result !== "object" || result === null) throw keyServiceError(`${reference}: the answer of ${program} holds no ${methodName}`);
  return result as JsonObject;
}

function bytesIn(answer: JsonObject, name: string, reference: string): Buffer {
  const text = answer[name];
  if (typeof text !== "string") throw keyServiceError(`${reference}: the plugin's answer holds no ${name}`);
  return Buffer.from(text, "base64");
}
