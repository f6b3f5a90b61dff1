import { promisify } from "node:util";
import { gunzip } from "node:zlib";
import type { Extract } from "tar-stream";
import { parseJson } from "../../bytes/index.ts";
import { describeCause } from "../../errors/index.ts";
import { PolicyError } from "../errors.ts";

/** What is used of a bundle. */
export interface OpaBundle {
  readonly wasm: Uint8Array<ArrayBuffer>;
  /** Of `data.json`; empty when there is none. */
  readonly data: Readonly<Record<string, unknown>>;
}

/** A bundle that is larger than this, packed or unpacked, is refused. */
const maxPackedBytes = 768 << 10;
const maxUnpackedBytes = 8 << 20;
const maxEntries = 1000;
const maxDataBytes = 1 << 20;
const maxManifestBytes = 64 << 10;

/** What the service itself puts where policies look for data. */
const ownNames = ["plugin", "resource-path", "query", "policy"];

/** Whether bytes begin as gzip does, which no policy text can. Source: RFC 1952 §2.3.1. */
export function isOpaBundle(bytes: Uint8Array): boolean {
  return bytes[0] === 0x1f && bytes[1] === 0x8b;
}

/**
 * Reads what `opa build -t wasm` wrote: a tar.gz with `policy.wasm`, `data.json` and `.manifest`; its Rego sources are
 * passed over. Throws `ERR_POLICY_NOT_UNDERSTOOD`. Source: OPA, "Bundles", "Bundle File Format".
 */
export async function readOpaBundle(bytes: Uint8Array): Promise<OpaBundle> {
  if (!isOpaBundle(bytes)) throw refused("it is not a tar.gz, as opa build -t wasm writes it");
  if (bytes.length > maxPackedBytes) throw refused(`it has ${bytes.length} bytes, at most ${maxPackedBytes}`);
  const files = await filesOf(await unpacked(bytes));
  if (files.has(".signatures.json"))
    throw refused("it is signed, and nothing here verifies that signature", "build it without a signing key");
  const wasm = files.get("policy.wasm");
  if (wasm === undefined) throw refused("it has no policy.wasm", "build it with: opa build -t wasm -e policy/allow …");
  checkManifest(files.get(".manifest"));
  return { wasm: new Uint8Array(wasm), data: dataOf(files.get("data.json")) };
}

async function unpacked(bytes: Uint8Array): Promise<Buffer> {
  try {
    return await promisify(gunzip)(bytes, { maxOutputLength: maxUnpackedBytes });
  } catch (cause) {
    throw refused(`it cannot be unpacked (${describeCause(cause)})`, `unpacked it has at most ${maxUnpackedBytes} bytes`);
  }
}

async function filesOf(tar: Buffer): Promise<ReadonlyMap<string, Buffer>> {
  const { extract } = await import("tar-stream");
  // The types of tar-stream do not know that it can be iterated.
  const entries = extract() as Extract & AsyncIterable<EntryStream>;
  entries.end(tar);
  const files = new Map<string, Buffer>();
  let seen = 0;
  try {
    for await (const entry of entries) {
      seen += 1;
      if (seen > maxEntries) throw refused(`it has more than ${maxEntries} entries`);
      const chunks: Buffer[] = [];
      for await (const chunk of entry) chunks.push(chunk);
      // opa build writes absolute names; nothing is ever written to them.
      const name = entry.header.name.replace(/^(?:\.?\/)+/, "");
      if (entry.header.type !== "file") continue;
      if (files.has(name)) throw refused(`it has ${JSON.stringify(name.slice(0, 80))} twice`);
      files.set(name, Buffer.concat(chunks));
    }
  } catch (cause) {
    throw cause instanceof PolicyError ? cause : refused(`it is no tar (${describeCause(cause)})`);
  }
  return files;
}

type EntryStream = AsyncIterable<Buffer> & { readonly header: { readonly name: string; readonly type?: string | null } };

function checkManifest(bytes: Buffer | undefined): void {
  if (bytes === undefined) return;
  const manifest = jsonOf(bytes, ".manifest", maxManifestBytes);
  // A delta bundle or one of several modules would be half of a policy.
  const modules = isObject(manifest) ? manifest["wasm"] : undefined;
  if (!isObject(manifest)) throw refused("its .manifest is not an object");
  if (modules === undefined) return;
  const names = Array.isArray(modules) ? modules.map((entry: unknown) => (isObject(entry) ? entry["module"] : undefined)) : [undefined];
  if (names.some((name) => typeof name !== "string" || name.replace(/^\/+/, "") !== "policy.wasm"))
    throw refused("its .manifest names another module than policy.wasm");
}

function dataOf(bytes: Buffer | undefined): Readonly<Record<string, unknown>> {
  if (bytes === undefined) return {};
  const data = jsonOf(bytes, "data.json", maxDataBytes);
  if (!isObject(data)) throw refused("its data.json is not an object");
  const taken = ownNames.find((name) => Object.hasOwn(data, name));
  if (taken !== undefined) throw refused(`its data.json has ${JSON.stringify(taken)}, which the service says itself`);
  return data;
}

function jsonOf(bytes: Buffer, name: string, maxBytes: number): unknown {
  try {
    return parseJson(bytes, { maxBytes, maxDepth: 32, subject: name });
  } catch (cause) {
    throw refused(`its ${name} is not usable (${describeCause(cause)})`);
  }
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** The error for a bundle that is not taken. */
export function refused(why: string, hint?: string): PolicyError {
  return new PolicyError("ERR_POLICY_NOT_UNDERSTOOD", { message: `the compiled policy is refused: ${why}`, hint });
}
