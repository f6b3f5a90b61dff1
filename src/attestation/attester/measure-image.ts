import { createHash } from "node:crypto";
import { writeFile } from "node:fs/promises";
import { parseDigest, type Digest } from "../../bytes/index.ts";
import { describeCause } from "../../errors/index.ts";
import { AttestationError } from "../errors.ts";

/** Where Linux lets a TD extend its runtime register (kernel 6.16 and newer). Source: Documentation/ABI/testing/sysfs-devices-virtual-misc-tdx_guest. */
export const defaultRuntimeRegister = "/sys/devices/virtual/misc/tdx_guest/measurements/rtmr3:sha384";

/**
 * What stands for an image in RTMR3: SHA-384 of the text `ociseal/image/1 ` and the digest of its manifest. The prefix
 * keeps it apart from whatever else extends the register.
 */
export function imageMeasurement(image: Digest): Buffer {
  return createHash("sha384")
    .update(`ociseal/image/1 ${parseDigest(image)}`, "utf8")
    .digest();
}

/** The register after measuring images in this order, from zero as it is at boot. */
export function runtimeRegisterAfter(images: readonly Digest[]): Buffer {
  return images.reduce<Buffer>(
    (register, image) => createHash("sha384").update(register).update(imageMeasurement(image)).digest(),
    Buffer.alloc(48),
  );
}

/**
 * Extends RTMR3 with an image, before anything of it runs. It cannot be undone until the TD ends: evidence collected later
 * says that this image was here. Throws `ERR_ATTESTER_UNAVAILABLE`. SNP has no runtime register.
 */
export async function measureImage(image: Digest, options: { readonly register?: string | undefined } = {}): Promise<void> {
  const register = options.register ?? defaultRuntimeRegister;
  try {
    // One write of the whole digest; the flag keeps a mistyped path from becoming a file.
    await writeFile(register, imageMeasurement(image), { flag: "r+" });
  } catch (cause) {
    throw new AttestationError("ERR_ATTESTER_UNAVAILABLE", {
      message: `the runtime register cannot be extended at ${register} (${describeCause(cause)})`,
      hint: "this needs root in a TDX guest with Linux 6.16 or newer",
      cause,
    });
  }
}
