import { attestationTargets } from "./attestation.ts";
import { imageTargets } from "./images.ts";
import { keyTargets } from "./keys.ts";
import type { FuzzTarget } from "./run.ts";
import { serviceTargets } from "./services.ts";
import { signatureTargets } from "./signatures.ts";

/** Every parser of foreign bytes, by what it belongs to. */
export async function allTargets(): Promise<Readonly<Record<string, readonly FuzzTarget[]>>> {
  return {
    attestation: attestationTargets(),
    images: imageTargets(),
    keys: await keyTargets(),
    services: serviceTargets(),
    signatures: signatureTargets(),
  };
}
