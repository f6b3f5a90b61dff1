/** One device of an attested guest, reduced to what policies ask about. Absence of proof is a value of its own. */
export interface DeviceClaims {
  /** `cpu0`. */
  readonly name: string;
  readonly tee: string;
  readonly status: string | undefined;
  /** Launch measurement in lower-case hex: MRTD, MEASUREMENT, MRENCLAVE; the sample TEE's word. */
  readonly measurement: string | undefined;
  readonly debug: "on" | "off" | "unproved";
  /** Whether the host may export the running guest: TDX MIGRATABLE, SNP's migration agent. */
  readonly migratable: boolean;
  readonly secureBoot: "on" | "off" | "unproved";
  /** Hex of the field that binds init-data. */
  readonly initData: string | undefined;
  /** Digests of images whose pull was measured. */
  readonly pulledImages: readonly string[];
  /** The TEE's own claims, under Trustee's names. */
  readonly claims: Fields;
}

export type Fields = Readonly<Record<string, unknown>>;

const names = ["tdx", "snp", "sgx", "az-snp-vtpm", "az-tdx-vtpm", "cca", "csv", "se", "sample"] as const;

/** The devices of an EAR token. A device whose TEE is not told apart counts as `unknown`, which no policy allows. */
export function deviceClaims(token: Fields): readonly DeviceClaims[] {
  const submods = token["submods"];
  if (!isFields(submods)) return [];
  return Object.entries(submods).map(([name, submod]) => deviceOf(name, isFields(submod) ? submod : {}));
}

function deviceOf(name: string, submod: Fields): DeviceClaims {
  const evidence = fieldsAt(submod, "ear.veraison.annotated-evidence");
  // Exactly one TEE's claims may stand there: two would let a guest choose which are looked at.
  const found = names.filter((tee) => isFields(evidence[tee]));
  const tee = found.length === 1 ? (found[0] ?? "unknown") : "unknown";
  const claims = fieldsAt(evidence, tee);
  return {
    name,
    tee,
    status: textOf(submod["ear.status"]),
    measurement: measurementOf(tee, claims),
    debug: stateOf(debugOf(tee, claims), "on", "off"),
    migratable:
      stateOf(fieldsAt(claims, "td_attributes")["migratable"], "on", "off") === "on" ||
      stateOf(claims["policy_migrate_ma"], "on", "off") === "on",
    secureBoot: stateOf(claims["secureBoot"], "on", "off"),
    initData: textOf(evidence["init_data"])?.toLowerCase(),
    pulledImages: pulledImagesOf(claims),
    claims,
  };
}

function measurementOf(tee: string, claims: Fields): string | undefined {
  const body = fieldsAt(fieldsAt(claims, "quote"), "body");
  switch (tee) {
    case "tdx":
    case "az-tdx-vtpm":
      return hexOf(body["mr_td"]);
    case "sgx":
      return hexOf(body["mr_enclave"] ?? fieldsAt(claims, "body")["mr_enclave"] ?? claims["mr_enclave"]);
    case "snp":
    case "az-snp-vtpm":
      return hexOf(claims["measurement"]);
    case "sample":
      return textOf(claims["launch_digest"]);
    default:
      return undefined;
  }
}

function debugOf(tee: string, claims: Fields): unknown {
  if (typeof claims["debug"] === "boolean") return claims["debug"];
  return tee === "snp" ? claims["policy_debug_allowed"] : fieldsAt(claims, "td_attributes")["debug"];
}

function stateOf<On extends string, Off extends string>(value: unknown, on: On, off: Off): On | Off | "unproved" {
  if (value === true || value === 1 || value === "1" || value === "true") return on;
  if (value === false || value === 0 || value === "0" || value === "false") return off;
  return "unproved";
}

/** PullImage events of CoCo's confidential data hub. Source: guest-components, `ExtendRuntimeMeasurement`. */
function pulledImagesOf(claims: Fields): readonly string[] {
  const events = claims["uefi_event_logs"];
  if (!Array.isArray(events)) return [];
  // Only the runtime register's log, and only when every event in it is what was measured: one that is not could be the pull.
  const runtime = events.filter((event: unknown) => isFields(event) && (event["index"] === 4 || event["index"] === undefined));
  if (
    runtime.some((event: unknown) => isFields(event) && (event["digest_matches_event"] === false || event["type_name"] === "EV_NO_ACTION"))
  )
    return [];
  return runtime.flatMap((event: unknown) => {
    const details = isFields(event) ? JSON.stringify(event["details"] ?? "") : "";
    return details.includes("PullImage") ? [...details.matchAll(/sha256:[0-9a-f]{64}/g)].map(([digest]) => digest) : [];
  });
}

function fieldsAt(object: Fields, name: string): Fields {
  const value = object[name];
  return isFields(value) ? value : {};
}

function isFields(value: unknown): value is Fields {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function textOf(value: unknown): string | undefined {
  return typeof value === "string" ? value : undefined;
}

function hexOf(value: unknown): string | undefined {
  return typeof value === "string" && /^[0-9a-fA-F]+$/.test(value) ? value.toLowerCase() : undefined;
}
