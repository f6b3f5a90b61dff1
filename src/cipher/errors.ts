import { ToolError, type ErrorFacts, type ErrorTable } from "../errors/index.ts";

export const cipherErrors = {
  ERR_CIPHER_NAME_UNKNOWN: { category: "usage", summary: "The cipher asked for does not exist." },
  ERR_CIPHER_UNKNOWN: { category: "integrity", summary: "A layer is encrypted with a cipher that this version does not know." },
  ERR_CIPHER_OPTIONS_MALFORMED: {
    category: "integrity",
    summary: "The cipher options of an encrypted layer are malformed, incomplete or not allowed.",
  },
  ERR_CIPHER_PUBLIC_NONCE: { category: "integrity", summary: "A nonce stands in the public options, where anybody can change it." },
  ERR_CIPHER_NONCE_MISSING: { category: "integrity", summary: "The private options of a layer lack the nonce that its cipher needs." },
  ERR_CIPHER_NONCE_LENGTH: { category: "integrity", summary: "The nonce of a layer has a wrong length." },
  ERR_CIPHER_KEY_LENGTH: { category: "integrity", summary: "The layer key has a wrong length." },
  ERR_CIPHER_COMMITMENT_MISMATCH: {
    category: "integrity",
    summary: "The unwrapped layer key is not the one that the manifest and the blob commit to.",
  },
  ERR_CIPHER_CHUNK_DAMAGED: { category: "integrity", summary: "A chunk of an encrypted layer is damaged, moved or forged." },
  ERR_CIPHER_SEGMENT_DAMAGED: { category: "integrity", summary: "A segment of an encrypted layer is damaged, moved or forged." },
  ERR_CIPHER_MAC_MISMATCH: { category: "integrity", summary: "An encrypted layer does not match its MAC, or the key is wrong." },
  ERR_CIPHER_TRUNCATED: { category: "integrity", summary: "An encrypted layer ended early." },
  ERR_CIPHER_TRAILING_DATA: { category: "integrity", summary: "An encrypted layer goes on after its end." },
  ERR_CIPHER_SIZE_IMPOSSIBLE: { category: "integrity", summary: "No layer of this cipher can have the declared size." },
  ERR_CIPHER_SIZE_MISMATCH: { category: "integrity", summary: "A layer being encrypted is shorter or longer than declared." },
  ERR_CIPHER_LAYER_TOO_LARGE: { category: "usage", summary: "A layer is larger than the cipher may encrypt." },
  ERR_CIPHER_CONVERGENT_SECRET: { category: "usage", summary: "The secret of convergent encryption is too short." },
  ERR_CIPHER_RANGE: { category: "usage", summary: "A byte range does not lie inside the layer." },
  ERR_CIPHER_UNCOMPRESS: { category: "integrity", summary: "A decrypted layer does not uncompress." },
  ERR_CIPHER_FILE: { category: "io", summary: "A local file of an encrypted or plain layer could not be read or written." },
} as const satisfies ErrorTable;

export class CipherError extends ToolError<keyof typeof cipherErrors> {
  constructor(code: keyof typeof cipherErrors, facts: ErrorFacts) {
    super(code, cipherErrors[code].category, facts);
  }
}

/** Whether a code is one of this room's. */
export function isCipherErrorCode(code: string): code is keyof typeof cipherErrors {
  return Object.hasOwn(cipherErrors, code);
}

const refetch = "the registry, a proxy or the disk changed the content; fetch it again, then report the digest to its owner";

export function truncated(message: string): CipherError {
  return new CipherError("ERR_CIPHER_TRUNCATED", { message, hint: refetch });
}

export function trailing(message: string): CipherError {
  return new CipherError("ERR_CIPHER_TRAILING_DATA", { message, hint: refetch });
}

export function damaged(code: "ERR_CIPHER_CHUNK_DAMAGED" | "ERR_CIPHER_SEGMENT_DAMAGED", index: number, cause?: unknown): CipherError {
  const [what, name] = code === "ERR_CIPHER_CHUNK_DAMAGED" ? (["chunk", "chunk"] as const) : (["segment", "segment"] as const);
  return new CipherError(code, {
    message: `${what} ${index} of the encrypted layer does not verify (expected the ${name} that was written there, got other bytes)`,
    hint: refetch,
    details: { [name]: index },
    cause,
  });
}

export function sizeMismatch(expected: number, got: number): CipherError {
  return new CipherError("ERR_CIPHER_SIZE_MISMATCH", {
    message: `the layer to encrypt has ${got > expected ? "more than" : "only"} ${Math.min(got, expected)} bytes, ${expected} were declared`,
    hint: "the source changed while it was read; try again",
  });
}

/** A source of another size than was declared (sealing) or than the layer has (opening). */
export function wrongSize(direction: "seal" | "open", expected: number, got: number): CipherError {
  if (direction === "seal") return sizeMismatch(expected, got);
  return got > expected
    ? trailing(`the encrypted layer goes on after ${expected} bytes, its end`)
    : truncated(`the encrypted layer ended after ${got} bytes (expected ${expected})`);
}

export function malformedOptions(message: string): CipherError {
  return new CipherError("ERR_CIPHER_OPTIONS_MALFORMED", {
    message,
    hint: "the image was made or changed by something that does not follow the format; encrypt it again, or report it to its owner",
  });
}
