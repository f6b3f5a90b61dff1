/** One kind of device that can produce evidence. Source: kbs-types, `Tee`. */
export interface TeeRow {
  /** The class under which it appears in a token: `cpu0`, `gpu0`. */
  readonly deviceClass: "cpu" | "gpu" | "switch" | "dcu";
  /** Development evidence that anybody can write. */
  readonly sample: boolean;
}

/** Every TEE name of protocol 0.4.0. */
export const tees = {
  "az-snp-vtpm": { deviceClass: "cpu", sample: false },
  "az-tdx-vtpm": { deviceClass: "cpu", sample: false },
  sgx: { deviceClass: "cpu", sample: false },
  snp: { deviceClass: "cpu", sample: false },
  tdx: { deviceClass: "cpu", sample: false },
  cca: { deviceClass: "cpu", sample: false },
  csv: { deviceClass: "cpu", sample: false },
  se: { deviceClass: "cpu", sample: false },
  tpm: { deviceClass: "cpu", sample: false },
  hygondcu: { deviceClass: "dcu", sample: false },
  nvidia: { deviceClass: "gpu", sample: false },
  "nvidia-dpu": { deviceClass: "switch", sample: false },
  sample: { deviceClass: "cpu", sample: true },
  sampledevice: { deviceClass: "gpu", sample: true },
} as const satisfies Readonly<Record<string, TeeRow>>;

export type TeeName = keyof typeof tees;

/** Spellings of type crates up to 0.12, which spoke protocol 0.2.0 and older. */
const formerNames: Readonly<Record<string, TeeName>> = { azsnpvtpm: "az-snp-vtpm", aztdxvtpm: "az-tdx-vtpm" };

/** The canonical name, or `undefined` for an unknown one. Former spellings count only for protocol 0.2.0. */
export function teeNamed(text: string, version: "0.2.0" | "0.4.0"): TeeName | undefined {
  const name = version === "0.2.0" && Object.hasOwn(formerNames, text) ? formerNames[text] : text;
  return name !== undefined && Object.hasOwn(tees, name) ? (name as TeeName) : undefined;
}
