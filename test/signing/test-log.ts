import { createHash, generateKeyPairSync, sign, type KeyObject } from "node:crypto";

const hash = (...parts: readonly Uint8Array[]): Buffer =>
  parts.reduce((hasher, part) => hasher.update(part), createHash("sha256")).digest();
const leafHash = (entry: Buffer): Buffer => hash(Buffer.of(0), entry);
const nodeHash = (left: Buffer, right: Buffer): Buffer => hash(Buffer.of(1), left, right);

/** The largest power of two below a size. RFC 6962 section 2.1. */
function split(size: number): number {
  let k = 1;
  while (k * 2 < size) k *= 2;
  return k;
}

function rootOf(leaves: readonly Buffer[]): Buffer {
  const [only] = leaves;
  if (leaves.length <= 1) return only ?? hash();
  const k = split(leaves.length);
  return nodeHash(rootOf(leaves.slice(0, k)), rootOf(leaves.slice(k)));
}

function pathTo(index: number, leaves: readonly Buffer[]): readonly Buffer[] {
  if (leaves.length <= 1) return [];
  const k = split(leaves.length);
  return index < k
    ? [...pathTo(index, leaves.slice(0, k)), rootOf(leaves.slice(k))]
    : [...pathTo(index - k, leaves.slice(k)), rootOf(leaves.slice(0, k))];
}

export interface Inclusion {
  readonly index: number;
  readonly treeSize: number;
  readonly root: Buffer;
  readonly hashes: readonly Buffer[];
  readonly checkpoint: string;
}

/** A transparency log in memory with a real Merkle tree and real signatures. RFC 6962; C2SP tlog-checkpoint and signed-note. */
export class TestLog {
  readonly publicKey: KeyObject;
  readonly spki: Buffer;
  readonly logId: Buffer;
  readonly #privateKey: KeyObject;
  readonly #origin: string;
  readonly #noteName: string;
  readonly #leaves: Buffer[] = [];

  constructor(origin: string, noteName: string) {
    const { privateKey, publicKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
    this.#privateKey = privateKey;
    this.publicKey = publicKey;
    this.spki = publicKey.export({ format: "der", type: "spki" });
    this.logId = hash(this.spki);
    this.#origin = origin;
    this.#noteName = noteName;
    // So that proofs have hashes to get wrong.
    for (const text of ["first", "second", "third"]) this.#leaves.push(leafHash(Buffer.from(text)));
  }

  append(entry: Buffer): Inclusion {
    const index = this.#leaves.push(leafHash(entry)) - 1;
    const root = rootOf(this.#leaves);
    const treeSize = this.#leaves.length;
    const note = `${this.#origin}\n${treeSize}\n${root.toString("base64")}\n`;
    const signature = Buffer.concat([this.logId.subarray(0, 4), this.sign(Buffer.from(note))]);
    return {
      index,
      treeSize,
      root,
      hashes: pathTo(index, this.#leaves),
      checkpoint: `${note}\n— ${this.#noteName} ${signature.toString("base64")}\n`,
    };
  }

  sign(message: Buffer): Buffer {
    return sign("sha256", message, this.#privateKey);
  }
}
