import type { DeviceClaims, Fields } from "./device-claims.ts";

/** From best to worst; a level is satisfied by itself and what stands before it. Source: Intel's TCB status words. */
const statusOrder = [
  "UpToDate",
  "SWHardeningNeeded",
  "ConfigurationNeeded",
  "ConfigurationAndSWHardeningNeeded",
  "OutOfDate",
  "OutOfDateConfigurationNeeded",
  "Revoked",
];

const snpClaims: Readonly<Record<string, string>> = {
  snp_bootloader: "reported_tcb_bootloader",
  snp_tee: "reported_tcb_tee",
  snp_snp: "reported_tcb_snp",
  snp_microcode: "reported_tcb_microcode",
};

/** Azure's guests are the same TEEs behind a vTPM. */
function kindOf(tee: string): string {
  return tee === "az-tdx-vtpm" ? "tdx" : tee === "az-snp-vtpm" ? "snp" : tee;
}

function fits(name: string, kind: string): boolean {
  if (name === "tcb_status") return kind === "tdx" || kind === "sgx";
  if (name === "tdx_tcb") return kind === "tdx";
  return name === "sgx_tcb" ? kind === "sgx" : kind === "snp";
}

/**
 * Compares what a device proved with a minimum TCB, component by component; never as one number.
 *
 * Intel's word on a platform counts also where the policy does not speak of it: then it must be `UpToDate`. An allowed
 * measurement says what runs, not on what. AMD gives no such word.
 */
export function* checkTcb(minimum: Readonly<Record<string, string | number>> | undefined, device: DeviceClaims): Generator<string> {
  const kind = kindOf(device.tee);
  const own = Object.entries(minimum ?? {}).filter(([name]) => fits(name, kind));
  // A minimum that says nothing about this TEE must not let it pass unseen.
  if (minimum !== undefined && own.length === 0) yield `min_tcb_level gives no minimum for ${device.tee}`;
  if (fits("tcb_status", kind)) yield* checkStatus(String(minimum?.["tcb_status"] ?? "UpToDate"), device);
  for (const [name, wanted] of own) {
    if (name === "tdx_tcb") yield* checkComponents(name, String(wanted), bodyOf(device)["tcb_svn"], device);
    else if (name === "sgx_tcb")
      yield* checkComponents(name, String(wanted), device.claims["cpu_svn"] ?? bodyOf(device)["cpu_svn"], device);
    else if (name in snpClaims) yield* checkNumber(name, Number(wanted), device.claims[snpClaims[name] ?? ""], device);
  }
}

function* checkStatus(wanted: string, device: DeviceClaims): Generator<string> {
  const claimed = device.claims["tcb_status"];
  const status = typeof claimed === "string" ? claimed : "(none)";
  const [have, need] = [statusOrder.indexOf(status), statusOrder.indexOf(wanted)];
  if (have < 0 || need < 0 || have > need)
    yield `${device.name} has TCB status ${status}, the policy needs ${wanted} or better (min_tcb_level.tcb_status)`;
}

/** Leading bytes of the vector; the rest is 0. */
function* checkComponents(name: string, wanted: string, value: unknown, device: DeviceClaims): Generator<string> {
  const need = Buffer.from(wanted.replace(/^0x/i, ""), "hex");
  const have = typeof value === "string" && /^(?:[0-9a-f]{2})+$/i.test(value) ? Buffer.from(value, "hex") : undefined;
  if (have === undefined) {
    yield `${device.name} proves no ${name}`;
    return;
  }
  const short = [...need.keys()].find((i) => (have[i] ?? 0) < (need[i] ?? 0));
  if (short !== undefined) yield `${device.name} has ${name} component ${short} at ${have[short] ?? 0}, the policy needs ${need[short]}`;
}

function* checkNumber(name: string, need: number, value: unknown, device: DeviceClaims): Generator<string> {
  const have = typeof value === "number" ? value : typeof value === "string" && /^\d+$/.test(value) ? Number(value) : undefined;
  if (have === undefined) yield `${device.name} proves no ${name}`;
  else if (have < need) yield `${device.name} has ${name} ${have}, the policy needs ${need}`;
}

function bodyOf(device: DeviceClaims): Fields {
  const quote = device.claims["quote"];
  const body = typeof quote === "object" && quote !== null ? (quote as Fields)["body"] : undefined;
  return typeof body === "object" && body !== null ? (body as Fields) : {};
}
