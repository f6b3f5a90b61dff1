import { ToolError, type ErrorFacts, type ErrorTable } from "../errors/index.ts";

export const keyproviderErrors = {
  ERR_KEYPROVIDER_REQUEST: { category: "usage", summary: "A request to the key provider is malformed, too large, or not for it." },
  ERR_KEYPROVIDER_PARAMETER: { category: "usage", summary: "The parameter of a key provider recipient is malformed or not supported." },
  ERR_KEYPROVIDER_NO_REGISTRY: {
    category: "usage",
    summary: "A key should be made, and no Key Broker Service was named that would keep it.",
  },
  ERR_KEYPROVIDER_KEY_UNREADABLE: {
    category: "denied",
    summary: "The key asked for exists at the Key Broker Service, and the provider may not read it.",
  },
  ERR_KEYPROVIDER_KEY_FILE: { category: "usage", summary: "A key file may not be read, or does not hold 32 raw bytes." },
  ERR_KEYPROVIDER_LISTEN: { category: "usage", summary: "The key provider would serve keys to strangers, or its address is taken." },
  ERR_KEYPROVIDER_OVERLOADED: { category: "unavailable", summary: "The key provider has too many calls under way." },
  ERR_KEYPROVIDER_PAYLOAD: { category: "integrity", summary: "What containerd handed over with a layer is malformed or too large." },
  ERR_KEYPROVIDER_PAYLOAD_MISSING: { category: "usage", summary: "containerd handed over no description of the layer." },
} as const satisfies ErrorTable;

export class KeyproviderError extends ToolError<keyof typeof keyproviderErrors> {
  constructor(code: keyof typeof keyproviderErrors, facts: ErrorFacts) {
    super(code, keyproviderErrors[code].category, facts);
  }
}

export function malformedRequest(what: string, cause?: unknown): KeyproviderError {
  return new KeyproviderError("ERR_KEYPROVIDER_REQUEST", {
    message: `the request to the key provider ${what}`,
    hint: "the caller must speak the ocicrypt key provider protocol (skopeo, podman, buildah, CRI-O, image-rs)",
    cause,
  });
}

export function badParameter(message: string, hint?: string): KeyproviderError {
  return new KeyproviderError("ERR_KEYPROVIDER_PARAMETER", {
    message,
    hint: hint ?? "give kbs:///REPOSITORY/TYPE[/TAG], or keyid=kbs:///…::keypath=FILE::algorithm=A256GCM",
  });
}
