import { decodeHex } from "../bytes/index.ts";

/**
 * The key that CoCo's sample mode wraps under: published in its source, so what it wraps is open to everybody. Source:
 * guest-components `coco_keyprovider`, sample mode.
 */
export const sampleKek = {
  uri: "kbs:///default/test-key/1",
  kek: decodeHex("d99b7705b0ba7a168295b3a3367270b0dd9b371bf514ca8b9ba7f0a33711daea"),
} as const;
