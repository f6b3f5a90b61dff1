/** The TEEs that this room knows, spelled as RCAR spells them. Source: reference B 1.6. */
export const teeNames = ["tdx", "sgx", "snp", "az-snp-vtpm", "az-tdx-vtpm", "sample", "sampledevice"] as const;

export type TeeName = (typeof teeNames)[number];

/** Whether a text names a TEE that this room can verify or imitate. */
export function isTeeName(text: string): text is TeeName {
  return (teeNames as readonly string[]).includes(text);
}
