import { createPublicKey, X509Certificate } from "node:crypto";
import type { TransparencyLogEntry } from "@sigstore/bundle";
import { parseJson } from "../../bytes/index.ts";
import { Rejection } from "../report.ts";
import { spkiOf } from "../keys/public-key.ts";
import { aList, anObject, aText, malformedSignature, type JsonObject } from "../shape.ts";

const maxBodyBytes = 1024 * 1024;

/**
 * Checks that a log entry names the key that signed, DER of its SubjectPublicKeyInfo.
 *
 * `@sigstore/verify` compares signature and digest only. A signature alone does not pin its key: for some schemes another
 * key can be made under which the same signature is good, and the entry would then not show up for who watches the log
 * for misuse of the real one. Throws {@link Rejection}.
 */
export function checkLoggedKey({ kindVersion, canonicalizedBody }: TransparencyLogEntry, signerSpki: Buffer): void {
  const where = `${kindVersion.kind} ${kindVersion.version}`;
  const parse = Object.hasOwn(loggedKeys, where) ? loggedKeys[where] : undefined;
  if (parse === undefined) throw new Rejection("log", `its log entry is of the unknown kind ${JSON.stringify(where.slice(0, 80))}`);
  let logged: Buffer;
  try {
    const body = anObject(parseJson(canonicalizedBody, { maxBytes: maxBodyBytes, subject: "log entry body" }), "body");
    logged = parse(anObject(body["spec"], "spec"));
  } catch (cause) {
    throw new Rejection("log", "its log entry names no readable key", cause);
  }
  if (!logged.equals(signerSpki)) throw new Rejection("log", "its log entry is of another key");
}

/** By kind and version; each gives SPKI DER. Source: sigstore/rekor pkg/types; sigstore/rekor-tiles. */
const loggedKeys: Readonly<Record<string, (spec: JsonObject) => Buffer>> = {
  "hashedrekord 0.0.1": (spec) => fromPem(anObject(anObject(spec["signature"], "signature")["publicKey"], "publicKey")["content"]),
  "dsse 0.0.1": (spec) => fromPem(onlyOf(spec["signatures"])["verifier"]),
  // The signature's key is base64 of PEM, as everywhere in Rekor v1; only the signature is encoded twice.
  "intoto 0.0.2": (spec) =>
    fromPem(onlyOf(anObject(anObject(spec["content"], "content")["envelope"], "envelope")["signatures"])["publicKey"]),
  "hashedrekord 0.0.2": (spec) =>
    fromVerifier(anObject(anObject(spec["hashedRekordV002"], "hashedRekordV002")["signature"], "signature")["verifier"]),
  "dsse 0.0.2": (spec) => fromVerifier(onlyOf(anObject(spec["dsseV002"], "dsseV002")["signatures"])["verifier"]),
};

function onlyOf(value: unknown): JsonObject {
  const [first, ...more] = aList(value, "signatures");
  if (more.length > 0) throw malformedSignature("log entry has more than one signature");
  return anObject(first, "signatures[0]");
}

function fromPem(value: unknown): Buffer {
  const pem = Buffer.from(aText(value, "key"), "base64").toString("latin1");
  return pem.includes("BEGIN CERTIFICATE") ? spkiOf(new X509Certificate(pem).publicKey) : spkiOf(createPublicKey(pem));
}

function fromVerifier(value: unknown): Buffer {
  const verifier = anObject(value, "verifier");
  const certificate = verifier["x509Certificate"];
  if (certificate !== undefined) return spkiOf(new X509Certificate(rawBytes(certificate)).publicKey);
  return spkiOf(createPublicKey({ key: rawBytes(verifier["publicKey"]), format: "der", type: "spki" }));
}

function rawBytes(value: unknown): Buffer {
  return Buffer.from(aText(anObject(value, "key")["rawBytes"], "rawBytes"), "base64");
}
