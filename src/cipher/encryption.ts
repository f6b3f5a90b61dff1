import { randomBytes } from "node:crypto";
import type { ByteStage, ContentAddress } from "../bytes/index.ts";
import { InternalError } from "../errors/index.ts";
import { CipherError, sizeMismatch } from "./errors.ts";
import { deriveChunkKeys, deriveConvergent, deriveConvergentCtr, type ConvergentRequest } from "./kdf.ts";
import type { CipherName, Engine } from "./names.ts";
import { segmentTagOptions, type PrivateOptions, type PublicOptions } from "./options.ts";
import type { TransformPlan, TransformResults } from "./plan.ts";
import { checkPlaintextSize, chunkLayout, ciphertextSize } from "./sizes.ts";
import { planStage } from "./stages.ts";
import { threadsFor, type CipherThreads } from "./threads.ts";

export interface EncryptionRequest {
  readonly cipher: CipherName;
  /** The layer's media type without `+encrypted`; chunked GCM binds it. */
  readonly mediaType: string;
  /** Bytes that will come, where known: it is enforced, gives the ciphertext size, and lets a CTR layer carry segment tags. */
  readonly plaintextSize?: number | undefined;
  readonly engine?: Engine | undefined;
  /** Key and salt from a tenant's secret instead of from randomness. */
  readonly convergent?: ConvergentRequest | undefined;
  /** Threads for large layers. */
  readonly threads?: CipherThreads | undefined;
}

/** One layer being encrypted, under a key of its own; for one use, so that no nonce meets two plaintexts. */
export interface LayerEncryption {
  readonly cipher: CipherName;
  /** Bytes of the blob, where the plaintext's size is known. */
  readonly ciphertextSize: number | undefined;
  readonly privateOptions: PrivateOptions;
  /** Plaintext to blob. Ends with `ERR_CIPHER_SIZE_MISMATCH` when the size was declared wrongly. */
  readonly stage: ByteStage;
  /** The public options; of a CTR layer only after its last byte. */
  publicOptions(): PublicOptions;
  /** The blob's SHA-256 and size, after the last byte of {@link stage}; only where it is computed beside the cipher. */
  readonly ciphertextAddress: (() => ContentAddress) | undefined;
  /** For the file path of this room: claims the one use, and takes what the transform knew at its end. */
  readonly claim: () => SealPlan;
  readonly settle: (results: TransformResults) => void;
}

/** How to encrypt without a stage: what comes before the transform's output, and the transform. */
export interface SealPlan {
  readonly head: Uint8Array;
  readonly transform: TransformPlan;
  readonly plaintextSize: number | undefined;
}

const minSecret = 32;

/** Prepares the encryption of one layer with fresh key material. Throws `ERR_CIPHER_LAYER_TOO_LARGE`, `ERR_CIPHER_CONVERGENT_SECRET`. */
export function newEncryption(request: EncryptionRequest): LayerEncryption {
  const { cipher, plaintextSize } = request;
  if (plaintextSize !== undefined) checkPlaintextSize(cipher, plaintextSize);
  const secretSize = request.convergent?.secret.length ?? minSecret;
  if (secretSize < minSecret) {
    throw new CipherError("ERR_CIPHER_CONVERGENT_SECRET", {
      message: `the secret of convergent encryption has ${secretSize} bytes (expected at least ${minSecret})`,
      hint: "make one with: ociseal key generate kek --out tenant; a secret that can be guessed gives every layer away",
    });
  }
  const prepared = prepare(request);
  let state: "new" | "used" | "done" = "new";
  let results: TransformResults = {};
  const claim = () => {
    if (state !== "new") throw new InternalError({ message: "a layer encryption was used twice; its key and nonce serve once" });
    state = "used";
    return { head: prepared.head, transform: prepared.plan, plaintextSize };
  };
  const settle = (found: TransformResults) => {
    results = found;
    state = "done";
  };
  return {
    cipher,
    ciphertextSize: plaintextSize === undefined ? undefined : ciphertextSize(cipher, plaintextSize),
    privateOptions: prepared.privateOptions,
    claim,
    settle,
    publicOptions: () => prepared.publicOptions(state === "done" ? results : undefined),
    ciphertextAddress:
      plaintextSize !== undefined && hashedByRunner(prepared.plan)
        ? () => {
            if (results.outputDigest === undefined)
              throw new InternalError({ message: "the address of an encrypted layer was asked for before its last byte" });
            return { digest: results.outputDigest, size: ciphertextSize(cipher, plaintextSize) };
          }
        : undefined,
    stage: async function* (source) {
      const { head, transform } = claim();
      if (head.length > 0) yield head;
      const plan = hashedByRunner(transform) ? { ...transform, hashOutput: { prefix: head } } : transform;
      const stage = planStage({ plan, threads: threadsFor(request.threads, plaintextSize), settle });
      yield* stage(plaintextSize === undefined ? source : declaredSize(plaintextSize)(source));
    },
  };
}

interface Prepared {
  readonly head: Uint8Array;
  readonly plan: TransformPlan;
  readonly privateOptions: PrivateOptions;
  publicOptions(results: TransformResults | undefined): PublicOptions;
}

function prepare(request: EncryptionRequest): Prepared {
  switch (request.cipher) {
    case "AES_256_GCM_C2SP_CHUNKED_V1":
      return prepareChunks(request);
    case "AES_256_CTR_HMAC_SHA256":
      return prepareCtr(request);
  }
}

function prepareChunks({ cipher, mediaType, convergent, engine = "node" }: EncryptionRequest): Prepared {
  const { key: symkey, salt } =
    convergent === undefined ? { key: randomBytes(32), salt: randomBytes(chunkLayout.saltSize) } : deriveConvergent(convergent, mediaType);
  const { key, baseNonce, commitment } = deriveChunkKeys(symkey, salt, mediaType);
  return {
    head: Buffer.concat([salt, commitment]),
    plan: { kind: "seal-chunks", engine, key, baseNonce },
    privateOptions: { symkey, cipheroptions: {} },
    publicOptions: () => ({ cipher, hmac: commitment, cipheroptions: {} }),
  };
}

function prepareCtr({ cipher, plaintextSize, convergent, engine = "node" }: EncryptionRequest): Prepared {
  const { key: symkey, nonce } =
    convergent === undefined ? { key: randomBytes(32), nonce: randomBytes(16) } : deriveConvergentCtr(convergent);
  return {
    head: new Uint8Array(0),
    plan: { kind: "seal-ctr", engine, layerKey: symkey, nonce, blobSize: plaintextSize },
    privateOptions: { symkey, cipheroptions: { nonce } },
    publicOptions(results) {
      if (results?.mac === undefined)
        throw new InternalError({ message: "the public options of a CTR layer were asked for before its last byte" });
      const { mac, tags } = results;
      const cipheroptions = tags === undefined || plaintextSize === undefined ? {} : segmentTagOptions(tags, plaintextSize);
      return { cipher, hmac: mac, cipheroptions };
    },
  };
}

/** Whether the ciphertext is hashed where it comes about; the thread of a CTR layer has two MACs to compute already. */
export function hashedByRunner({ kind }: TransformPlan): boolean {
  return kind === "seal-chunks";
}

/** Ends with `ERR_CIPHER_SIZE_MISMATCH` unless exactly the declared number of bytes comes. */
function declaredSize(expected: number): ByteStage {
  return async function* (source) {
    let size = 0;
    for await (const chunk of source) {
      size += chunk.length;
      if (size > expected) throw sizeMismatch(expected, size);
      yield chunk;
    }
    if (size < expected) throw sizeMismatch(expected, size);
  };
}
