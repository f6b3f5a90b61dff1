import { formatDockerReference, isNameOnly, parseDockerReference, type DockerReference } from "./docker-reference.ts";
import type { SignedIdentity } from "./model.ts";

/**
 * Whether the repository that a signature names is the one that the policy demands for an image of this docker name.
 * Source: containers/image signature/policy_reference_match.go.
 *
 * @param image - the image's docker name; `undefined` for a layout or archive, which has none.
 * @param signed - `docker-reference` of the payload, whose signature was verified.
 */
export function matchesIdentity(rule: SignedIdentity, image: DockerReference | undefined, signed: string): boolean {
  const signature = parseDockerReference(signed);
  if (signature === undefined) return false;
  switch (rule.kind) {
    case "matchExact":
      return image !== undefined && !isNameOnly(image) && !isNameOnly(signature) && isSame(image, signature);
    case "matchRepoDigestOrExact":
      return image !== undefined && matchesRepoDigestOrExact(image, signature);
    case "matchRepository":
      return image !== undefined && image.name === signature.name;
    case "exactReference": {
      const exact = parseDockerReference(rule.dockerReference);
      return exact !== undefined && !isNameOnly(exact) && !isNameOnly(signature) && isSame(exact, signature);
    }
    case "exactRepository":
      return parseDockerReference(rule.dockerRepository)?.name === signature.name;
    case "remapIdentity": {
      const remapped = image === undefined ? undefined : remap(image, rule.prefix, rule.signedPrefix);
      return remapped !== undefined && matchesRepoDigestOrExact(remapped, signature);
    }
  }
}

function matchesRepoDigestOrExact(image: DockerReference, signature: DockerReference): boolean {
  // A bare repository, as cosign signs it, satisfies only matchRepository and exactRepository.
  if (isNameOnly(signature)) return false;
  if (image.tag !== undefined) return isSame(image, signature);
  return image.digest !== undefined && image.name === signature.name;
}

function isSame(left: DockerReference, right: DockerReference): boolean {
  return formatDockerReference(left) === formatDockerReference(right);
}

function remap(image: DockerReference, prefix: string, signedPrefix: string): DockerReference | undefined {
  if (image.name !== prefix && !image.name.startsWith(`${prefix}/`)) return image;
  const text = formatDockerReference({ ...image, name: `${signedPrefix}${image.name.slice(prefix.length)}` });
  const parsed = parseDockerReference(text);
  // Only a name that is already in full may come out: docker's defaults must not add to it.
  return parsed !== undefined && formatDockerReference(parsed) === text ? parsed : undefined;
}
