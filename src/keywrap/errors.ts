import { ToolError, type ErrorFacts, type ErrorTable } from "../errors/index.ts";

export const keywrapErrors = {
  ERR_KEYWRAP_KEY_MALFORMED: { category: "usage", summary: "A key or certificate file holds no key in a form that is known." },
  ERR_KEYWRAP_KEY_UNSUPPORTED: { category: "usage", summary: "A key is of a type, curve or size that cannot wrap layer keys." },
  ERR_KEYWRAP_KEY_PRIVATE: { category: "usage", summary: "A private key was given where a public key is expected." },
  ERR_KEYWRAP_PASSWORD_MISSING: { category: "no-key", summary: "A private key is encrypted and no password was given." },
  ERR_KEYWRAP_PASSWORD_WRONG: { category: "no-key", summary: "The password of a private key is wrong, or its file is damaged." },
  ERR_KEYWRAP_RECIPIENT_MALFORMED: { category: "usage", summary: "A recipient or key on the command line is malformed." },
  ERR_KEYWRAP_KBS_URI_MALFORMED: { category: "usage", summary: "A KBS resource URI is malformed." },
  ERR_KEYWRAP_KEK_LENGTH: { category: "integrity", summary: "A key encryption key does not have 32 bytes." },
  ERR_KEYWRAP_PACKET_MALFORMED: { category: "integrity", summary: "A wrapped key in an annotation is malformed or too large." },
  ERR_KEYWRAP_PACKET_DAMAGED: { category: "integrity", summary: "A wrapped key is for a key at hand and does not open with it." },
  ERR_KEYWRAP_SCHEME_UNSUPPORTED: { category: "integrity", summary: "A wrapped key uses an algorithm or form that is not supported." },
  ERR_KEYWRAP_NO_KEY: { category: "no-key", summary: "None of the given keys opens any of the wrapped keys." },
  ERR_KEYWRAP_PROVIDER_CONFIG: {
    category: "usage",
    summary: "The key provider configuration is malformed or lacks the provider asked for.",
  },
  ERR_KEYWRAP_PROVIDER_FAILED: {
    category: "unavailable",
    summary: "A key provider could not be run or reached, or answered with an error.",
  },
  ERR_KEYWRAP_PROVIDER_REPLY: { category: "integrity", summary: "A key provider answered with something that is not a reply." },
  ERR_KEYWRAP_PEER_MISSING: { category: "usage", summary: "A scheme needs a package that is not installed." },
} as const satisfies ErrorTable;

export class KeywrapError extends ToolError<keyof typeof keywrapErrors> {
  constructor(code: keyof typeof keywrapErrors, facts: ErrorFacts) {
    super(code, keywrapErrors[code].category, facts);
  }
}

export function malformedPacket(message: string, cause?: unknown): KeywrapError {
  return new KeywrapError("ERR_KEYWRAP_PACKET_MALFORMED", {
    message,
    cause,
    hint: "the annotations of the image were damaged or written by a faulty tool; fetch the image again, then report it to its owner",
  });
}
