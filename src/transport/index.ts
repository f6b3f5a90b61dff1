/** From an image name to its store: registries, layouts, archives and folders behind one door. */
export { transportErrors, TransportError } from "./errors.ts";
export { checkDigest, openImage, type ImageContext, type OpenedImage, type RegistryAccess } from "./open-image.ts";
export { onSides } from "./sides.ts";
export { copyImage, planCopy, type CopiedImage, type CopyImageRequest } from "./copy-image.ts";
