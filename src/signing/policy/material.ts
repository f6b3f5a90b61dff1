import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { describeCause } from "../../errors/index.ts";
import { SigningError } from "../errors.ts";
import { loadPublicKey, type PublicKey } from "../keys/public-key.ts";
import type { CertificateAuthorities } from "../trust/anchors.ts";
import type { Material, PolicyTrust } from "./model.ts";
import type { MaterialReader } from "./requirement.ts";

const maxMaterialBytes = 1024 * 1024;

/** Reads local paths and `file://` URIs. */
export const readLocalMaterial: MaterialReader = async (reference) => {
  if (/^[a-z][a-z0-9+.-]*:\/\//i.test(reference) && !reference.startsWith("file://")) {
    throw new Error("only paths and file:// URIs can be read here");
  }
  return await readFile(reference.startsWith("file://") ? fileURLToPath(reference) : reference);
};

/** Reads one material. Throws `ERR_POLICY_MATERIAL`: what a policy names must be there, else nothing is allowed. */
export async function readMaterial(material: Material, read: MaterialReader): Promise<Buffer> {
  switch (material.kind) {
    case "data":
      return material.bytes;
    case "path":
      try {
        const bytes = Buffer.from(await read(material.path));
        if (bytes.length > maxMaterialBytes) throw new Error(`larger than ${maxMaterialBytes} bytes`);
        return bytes;
      } catch (cause) {
        throw new SigningError("ERR_POLICY_MATERIAL", {
          message: `${material.member} of the policy names ${JSON.stringify(material.path.slice(0, 300))}, which cannot be read: ${describeCause(cause)}`,
          hint: "put the file there, or correct the policy; until then it allows nothing that needs this key",
          cause,
        });
      }
  }
}

export async function readKeys(materials: readonly Material[], read: MaterialReader): Promise<readonly PublicKey[]> {
  return await Promise.all(
    materials.map(async (material) => loadPublicKey({ bytes: await readMaterial(material, read), source: nameOf(material) })),
  );
}

/** Keys of logs; skopeo takes ECDSA only. */
export async function readLogKeys(materials: readonly Material[], read: MaterialReader): Promise<readonly PublicKey[]> {
  const keys = await readKeys(materials, read);
  const other = keys.find(({ type }) => !type.startsWith("ecdsa-"));
  if (other !== undefined) {
    throw new SigningError("ERR_POLICY_MATERIAL", {
      message: `${other.source} is a key of type ${other.type}, and the key of a Rekor log must be an ECDSA key`,
      hint: "use the log's own public key (GET /api/v1/log/publicKey)",
    });
  }
  return keys;
}

export async function readAuthorities(
  trust: Exclude<PolicyTrust, { readonly kind: "keys" }>,
  read: MaterialReader,
): Promise<CertificateAuthorities> {
  const roots = trust.kind === "fulcio" ? trust.ca : trust.roots;
  const between = trust.kind === "fulcio" ? undefined : trust.intermediates;
  return {
    roots: await readMaterial(roots, read),
    intermediates: between === undefined ? undefined : await readMaterial(between, read),
    source: nameOf(roots),
  };
}

function nameOf(material: Material): string {
  return material.kind === "path" ? material.path : material.member;
}
