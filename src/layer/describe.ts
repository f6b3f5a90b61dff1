import { isCipherName, plaintextSize, type CipherName } from "../cipher/index.ts";
import { ToolError } from "../errors/index.ts";
import { describePacket, type RecipientDescription } from "../keywrap/index.ts";
import type { Descriptor } from "../oci/index.ts";
import { checkEncryptionMark, isEncryptedLayer, parseEncryptionAnnotations } from "./annotations.ts";
import { checkSealedLayer } from "./open.ts";
import { parsePublicOptions } from "./options-json.ts";

/** What a descriptor tells about a layer's encryption, without any key. Nothing of it is verified. */
export interface EncryptionDescription {
  readonly cipher: CipherName | undefined;
  /** Bytes of plaintext, where the cipher is known and the size possible. */
  readonly plaintextSize: number | undefined;
  /** Whether a CTR layer carries segment tags, which let our readers verify and seek it piece by piece. */
  readonly segments: "tagged" | "untagged" | "not-applicable";
  readonly recipients: readonly RecipientDescription[];
  /** What is wrong with it: opening it would throw the first of these. */
  readonly problems: readonly ToolError[];
}

/** Describes an encrypted layer; `undefined` for a plain one. Never throws for what the image holds: it lists problems. */
export function describeEncryption(layer: Descriptor): EncryptionDescription | undefined {
  const problems: ToolError[] = [];
  const note = <T>(run: () => T): T | undefined => {
    try {
      return run();
    } catch (cause) {
      if (!(cause instanceof ToolError)) throw cause;
      if (!problems.some(({ code, message }) => code === cause.code && message === cause.message)) problems.push(cause);
      return undefined;
    }
  };
  note(() => checkEncryptionMark(layer));
  if (!isEncryptedLayer(layer) && problems.length === 0) return undefined;
  note(() => checkSealedLayer(layer));
  const annotations = note(() => parseEncryptionAnnotations(layer));
  const publicOptions = annotations && note(() => parsePublicOptions(annotations.publicOptions));
  const cipher = publicOptions !== undefined && isCipherName(publicOptions.cipher) ? publicOptions.cipher : undefined;
  return {
    cipher,
    plaintextSize: cipher && note(() => plaintextSize(cipher, layer.size)),
    segments:
      cipher !== "AES_256_CTR_HMAC_SHA256"
        ? "not-applicable"
        : Object.hasOwn(publicOptions?.cipheroptions ?? {}, "seg.tags")
          ? "tagged"
          : "untagged",
    recipients: (annotations?.packets ?? []).flatMap((packet) => note(() => describePacket(packet)) ?? []),
    problems,
  };
}
