import { parseJson } from "../../bytes/index.ts";
import { refuse } from "../refuse.ts";
import { readAdvisoryIds, readCount, readDate, readHex, readList, readRecord, readString, type JsonRecord } from "./json-fields.ts";

/** The words that Intel gives a platform level. Any other word is refused, never passed on. */
export const platformStatuses = [
  "UpToDate",
  "SWHardeningNeeded",
  "ConfigurationNeeded",
  "ConfigurationAndSWHardeningNeeded",
  "OutOfDate",
  "OutOfDateConfigurationNeeded",
  "Revoked",
] as const;
export type PlatformStatus = (typeof platformStatuses)[number];

/** The words for a TDX module or a quoting enclave. */
export const componentStatuses = ["UpToDate", "OutOfDate", "Revoked"] as const;
export type ComponentStatus = (typeof componentStatuses)[number];

/** What every level carries besides its numbers. */
export interface LevelFacts<Status> {
  readonly status: Status;
  /** Milliseconds since the epoch. */
  readonly tcbDate: number;
  readonly advisoryIds: readonly string[];
}

/** One row of the platform table. */
export interface TcbLevel extends LevelFacts<PlatformStatus> {
  readonly sgxComponents: readonly number[];
  readonly pceSvn: number;
  /** 16 numbers for TDX, empty for SGX. */
  readonly tdxComponents: readonly number[];
  /** What Intel calls the components ("Early Microcode Update"), for explanations. */
  readonly sgxNames: readonly string[];
  readonly tdxNames: readonly string[];
}

/** One row of a module's or enclave's table. */
export interface ComponentLevel extends LevelFacts<ComponentStatus> {
  readonly isvSvn: number;
}

/** Who signs TDX modules of one major version, and their levels, highest SVN first. */
export interface TdxModuleIdentity {
  /** `TDX_01`; upper case. */
  readonly id: string;
  readonly mrSigner: Buffer;
  readonly attributes: Buffer;
  readonly levels: readonly ComponentLevel[];
}

/** Intel's verdicts about one family of platforms. */
export interface TcbInfo {
  readonly id: "SGX" | "TDX";
  readonly version: 2 | 3;
  readonly issueDate: number;
  readonly nextUpdate: number;
  readonly fmspc: Buffer;
  readonly pceId: Buffer;
  readonly tcbEvaluationDataNumber: number;
  readonly tdxModule: Pick<TdxModuleIdentity, "mrSigner" | "attributes"> | undefined;
  readonly tdxModuleIdentities: readonly TdxModuleIdentity[];
  /** Highest first, whatever the order in the document. */
  readonly levels: readonly TcbLevel[];
}

const maxBytes = 1 << 20;
const maxLevels = 512;

/** Parses the signed bytes of a `tcbInfo` value. Duplicate members, unknown status words and missing members are refused. */
export function parseTcbInfo(bytes: Uint8Array, path: string): TcbInfo {
  const record = readRecord(readJson(bytes, path), path);
  const version = readCount(record["version"], `${path}.version`, 255);
  if (version !== 2 && version !== 3) {
    throw refuse("COLLATERAL_VERSION_UNKNOWN", {
      path: `${path}.version`,
      message: "the TCB info has an unknown version",
      expected: "2 or 3",
      actual: String(version),
    });
  }
  // Version 2 is about SGX alone and does not say so.
  const id = version === 2 ? "SGX" : readString(record["id"], `${path}.id`);
  if (id !== "SGX" && id !== "TDX") {
    throw refuse("TCB_INFO_MISMATCH", {
      path: `${path}.id`,
      message: "the TCB info is for an unknown TEE",
      expected: "SGX or TDX",
      actual: id.slice(0, 40),
    });
  }
  if (readCount(record["tcbType"], `${path}.tcbType`, 255) !== 0) {
    throw refuse("COLLATERAL_VERSION_UNKNOWN", {
      path: `${path}.tcbType`,
      message: "the TCB info compares components in an unknown way",
      expected: "0",
    });
  }
  const levels = readList(record["tcbLevels"], `${path}.tcbLevels`, maxLevels).map((level, i) =>
    readLevel(level, `${path}.tcbLevels[${i}]`, version, id),
  );
  const identities = record["tdxModuleIdentities"];
  return {
    id,
    version,
    issueDate: readDate(record["issueDate"], `${path}.issueDate`),
    nextUpdate: readDate(record["nextUpdate"], `${path}.nextUpdate`),
    fmspc: readHex(record["fmspc"], `${path}.fmspc`, 6),
    pceId: readHex(record["pceId"], `${path}.pceId`, 2),
    tcbEvaluationDataNumber: readCount(record["tcbEvaluationDataNumber"], `${path}.tcbEvaluationDataNumber`, 2 ** 31),
    tdxModule: id === "TDX" ? readModule(readRecord(record["tdxModule"], `${path}.tdxModule`), `${path}.tdxModule`) : undefined,
    tdxModuleIdentities: identities === undefined ? [] : readIdentities(identities, `${path}.tdxModuleIdentities`),
    levels: levels.toSorted(compareLevels),
  };
}

/** JSON of the vendor; a malformed document is a finding like any other. */
export function readJson(bytes: Uint8Array, path: string): unknown {
  try {
    return parseJson(bytes, { maxBytes, maxDepth: 16, subject: "collateral" });
  } catch (cause) {
    throw refuse("COLLATERAL_MALFORMED", { path, message: cause instanceof Error ? cause.message : "the collateral is not JSON" });
  }
}

function readLevel(value: unknown, path: string, version: 2 | 3, id: "SGX" | "TDX"): TcbLevel {
  const record = readRecord(value, path);
  const tcb = readRecord(record["tcb"], `${path}.tcb`);
  const sgx =
    version === 2 ? readFlatComponents(tcb, `${path}.tcb`) : readComponents(tcb["sgxtcbcomponents"], `${path}.tcb.sgxtcbcomponents`);
  const tdx = id === "TDX" ? readComponents(tcb["tdxtcbcomponents"], `${path}.tcb.tdxtcbcomponents`) : { svns: [], names: [] };
  return {
    sgxComponents: sgx.svns,
    sgxNames: sgx.names,
    pceSvn: readCount(tcb["pcesvn"], `${path}.tcb.pcesvn`, 65535),
    tdxComponents: tdx.svns,
    tdxNames: tdx.names,
    ...readFacts(record, path, platformStatuses),
  };
}

/** Date, status and advisories of any level. */
export function readFacts<Status extends string>(record: JsonRecord, path: string, words: readonly Status[]): LevelFacts<Status> {
  const word = readString(record["tcbStatus"], `${path}.tcbStatus`);
  const status = words.find((known) => known === word);
  if (status === undefined) {
    throw refuse("TCB_STATUS_UNKNOWN", {
      path: `${path}.tcbStatus`,
      message: "the collateral uses a status word that is not known; what it means cannot be guessed",
      expected: words.join(", "),
      actual: word.slice(0, 80),
    });
  }
  return {
    status,
    tcbDate: readDate(record["tcbDate"], `${path}.tcbDate`),
    advisoryIds: readAdvisoryIds(record["advisoryIDs"], `${path}.advisoryIDs`),
  };
}

interface Components {
  readonly svns: readonly number[];
  readonly names: readonly string[];
}

function readComponents(value: unknown, path: string): Components {
  const list = readList(value, path, 16);
  if (list.length !== 16) throw refuse("COLLATERAL_MALFORMED", { path, message: `a level has ${list.length} components, not 16` });
  const records = list.map((item, i) => readRecord(item, `${path}[${i}]`));
  return {
    svns: records.map((record, i) => readCount(record["svn"], `${path}[${i}].svn`, 255)),
    names: records.map((record) => (typeof record["type"] === "string" ? record["type"] : "")),
  };
}

function readFlatComponents(tcb: JsonRecord, path: string): Components {
  const svns = Array.from({ length: 16 }, (_, i) => {
    const name = `sgxtcbcomp${String(i + 1).padStart(2, "0")}svn`;
    return readCount(tcb[name], `${path}.${name}`, 255);
  });
  return { svns, names: svns.map(() => "") };
}

function readModule(record: JsonRecord, path: string): Pick<TdxModuleIdentity, "mrSigner" | "attributes"> {
  return {
    mrSigner: readHex(record["mrsigner"], `${path}.mrsigner`, 48),
    attributes: readHex(record["attributes"], `${path}.attributes`, 8),
  };
}

function readIdentities(value: unknown, path: string): readonly TdxModuleIdentity[] {
  const identities = readList(value, path, 64).map((item, i) => {
    const at = `${path}[${i}]`;
    const record = readRecord(item, at);
    return {
      id: readString(record["id"], `${at}.id`).toUpperCase(),
      ...readModule(record, at),
      levels: readComponentLevels(record["tcbLevels"], `${at}.tcbLevels`),
    };
  });
  if (new Set(identities.map(({ id }) => id)).size !== identities.length) {
    throw refuse("COLLATERAL_MALFORMED", { path, message: "a TDX module identity occurs twice" });
  }
  return identities;
}

/** Levels of a module or enclave, highest SVN first. */
export function readComponentLevels(value: unknown, path: string): readonly ComponentLevel[] {
  const levels = readList(value, path, maxLevels).map((item, i) => {
    const at = `${path}[${i}]`;
    const record = readRecord(item, at);
    const tcb = readRecord(record["tcb"], `${at}.tcb`);
    return { isvSvn: readCount(tcb["isvsvn"], `${at}.tcb.isvsvn`, 65535), ...readFacts(record, at, componentStatuses) };
  });
  return levels.toSorted((left, right) => right.isvSvn - left.isvSvn);
}

/** Descending by SGX components, then PCE SVN, then TDX components: the verdict must not hang on the order in the document. */
function compareLevels(left: TcbLevel, right: TcbLevel): number {
  return (
    compareNumbers(right.sgxComponents, left.sgxComponents) ||
    right.pceSvn - left.pceSvn ||
    compareNumbers(right.tdxComponents, left.tdxComponents)
  );
}

function compareNumbers(left: readonly number[], right: readonly number[]): number {
  for (const [i, value] of left.entries()) {
    const difference = value - (right[i] ?? 0);
    if (difference !== 0) return difference;
  }
  return 0;
}
