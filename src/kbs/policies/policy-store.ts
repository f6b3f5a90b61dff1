import { KbsError } from "../errors.ts";
import type { SealedRecords } from "../keys/sealed-records.ts";
import type { AttestationPolicy, PolicyDecision, ReleaseInput, ResourcePolicy } from "../protocol/policy-seam.ts";
import { isObject } from "../protocol/shape.ts";
import { matchesPath } from "../../policy/index.ts";
import { digestOfText } from "./default-release.ts";

/** The languages in which policies are uploaded; `wasm` is the base64 of what OPA compiled. */
export const policyLanguages = ["rego", "json", "wasm"] as const;

export type PolicyLanguage = (typeof policyLanguages)[number];

/** What a policy governs: releases of resources, or the appraisal of a class of devices. */
export type PolicyPurpose = "release" | "appraisal";

/**
 * Compiles policies of one language. Whatever it does not fully understand it refuses, with the place in the text: a
 * `ToolError` of category `usage`.
 */
export interface PolicyEngine {
  readonly language: PolicyLanguage;
  compileRelease(text: string, id: string): ResourcePolicy | Promise<ResourcePolicy>;
  /** Left out by languages that cannot appraise. */
  readonly compileAppraisal?: ((text: string, id: string) => AttestationPolicy | Promise<AttestationPolicy>) | undefined;
  /** `sha256:` of a text whose digest is not that of its characters. */
  readonly digestOf?: ((text: string) => string) | undefined;
}

/** A policy as the index knows it. */
export interface PolicyRow {
  readonly id: string;
  readonly purpose: PolicyPurpose;
  readonly language: PolicyLanguage;
  /** The resources that a release policy governs: a path pattern as in grants. */
  readonly resources: string;
  /** `sha256:` of the text. */
  readonly digest: string;
  readonly createdAt: string;
  readonly createdBy: string;
  /** Counts uploads under this id. */
  readonly version: number;
}

export interface StoredPolicy extends PolicyRow {
  readonly text: string;
}

export interface PolicyUpload {
  readonly id: string;
  readonly purpose: PolicyPurpose;
  readonly language: PolicyLanguage;
  readonly resources: string;
  readonly text: string;
}

const idGrammar = /^[a-zA-Z0-9_-][a-zA-Z0-9_.-]{0,127}$/;
const patternGrammar = /^(?:[a-zA-Z0-9_.*-]+\/)*[a-zA-Z0-9_.*-]+$/;
const maxTextBytes = 1 << 20;
const maxPolicies = 1000;
const maxCompiled = 1000;
const indexRecord = "system/policies";

/**
 * The policies of a service.
 *
 * A resource is governed by the policy whose pattern fits it most closely (the longest text before the first `*`); where
 * several fit equally, all of them must allow. Nothing fits: the fallback decides, which fails closed.
 */
export class PolicyStore {
  readonly #records: SealedRecords;
  readonly #engines: readonly PolicyEngine[];
  readonly #compiled = new Map<string, ResourcePolicy>();
  readonly #appraisals = new Map<string, AttestationPolicy>();

  constructor(records: SealedRecords, engines: readonly PolicyEngine[]) {
    this.#records = records;
    this.#engines = engines;
  }

  /** Compiles without storing; the digest of the text. Throws as {@link put}. */
  async check(upload: PolicyUpload): Promise<string> {
    checkUpload(upload);
    await this.#compile(upload);
    return this.#digestOf(upload);
  }

  /** Compiles, then stores. Throws `ERR_KBS_REQUEST_REFUSED` and what the engine throws; then nothing changed. */
  async put(upload: PolicyUpload, by: { readonly subject: string; readonly now: Date }): Promise<PolicyRow> {
    const digest = await this.check(upload);
    const { text, ...rest } = upload;
    // The text first, under its digest: the index never names a text that is not there.
    await this.#records.write(textRecord(digest), { text }, { kind: "any" });
    const row = { ...rest, digest, createdAt: by.now.toISOString(), createdBy: by.subject };
    let stored: PolicyRow = { ...row, version: 1 };
    await this.#records.edit(indexRecord, (existing) => {
      const rows = parseIndex(existing);
      const former = rows.find((candidate) => isSame(candidate, upload));
      stored = { ...row, version: (former?.version ?? 0) + 1 };
      return indexOf([...rows.filter((candidate) => candidate !== former), stored]);
    });
    return stored;
  }

  /** A policy with its text. */
  async read(purpose: PolicyPurpose, id: string): Promise<StoredPolicy | undefined> {
    const row = (await this.#index()).find((candidate) => isSame(candidate, { purpose, id }));
    return row === undefined ? undefined : { ...row, text: await this.#textOf(row) };
  }

  /** The policies for a purpose, by id, without their texts. */
  async list(purpose: PolicyPurpose): Promise<readonly PolicyRow[]> {
    const rows = (await this.#index()).filter((row) => row.purpose === purpose);
    return rows.sort((left, right) => (left.id < right.id ? -1 : 1));
  }

  async remove(purpose: PolicyPurpose, id: string): Promise<"removed" | "absent"> {
    let outcome: "removed" | "absent" = "absent";
    await this.#records.edit(indexRecord, (existing) => {
      const rows = parseIndex(existing);
      const kept = rows.filter((row) => !isSame(row, { purpose, id }));
      outcome = kept.length === rows.length ? "absent" : "removed";
      return indexOf(kept);
    });
    return outcome;
  }

  /** The policy that governs a resource, or `undefined` when none does. One read of the store, whatever their number. */
  async governing(path: string): Promise<ResourcePolicy | undefined> {
    const fitting = (await this.#index()).filter(({ purpose, resources }) => purpose === "release" && matchesPath(resources, path));
    const closest = Math.max(...fitting.map(({ resources }) => closeness(resources)));
    const chosen: ResourcePolicy[] = [];
    for (const row of fitting) if (closeness(row.resources) === closest) chosen.push(await this.#release(row));
    const [first, ...others] = chosen;
    return first === undefined || others.length === 0 ? first : allOf(chosen);
  }

  /** The appraisal policy for a class of devices: `default_cpu`, as Trustee names it, or `default` for CPUs. */
  async appraisal(deviceClass: string): Promise<AttestationPolicy | undefined> {
    const rows = (await this.#index()).filter(({ purpose }) => purpose === "appraisal");
    const row =
      rows.find(({ id }) => id === `default_${deviceClass}`) ??
      (deviceClass === "cpu" ? rows.find(({ id }) => id === "default") : undefined);
    if (row === undefined) return undefined;
    const key = `${row.id}\0${row.language}\0${row.digest}`;
    let compiled = this.#appraisals.get(key);
    if (compiled === undefined) {
      compiled = await this.#engine(row.language).compileAppraisal?.(await this.#textOf(row), row.id);
      if (compiled === undefined) throw refused(`policies in ${row.language} cannot appraise`);
      keep(this.#appraisals, key, compiled);
    }
    return compiled;
  }

  async #release(row: PolicyRow): Promise<ResourcePolicy> {
    const key = `${row.id}\0${row.language}\0${row.digest}`;
    let compiled = this.#compiled.get(key);
    if (compiled === undefined) {
      compiled = await this.#engine(row.language).compileRelease(await this.#textOf(row), row.id);
      keep(this.#compiled, key, compiled);
    }
    return compiled;
  }

  async #index(): Promise<readonly PolicyRow[]> {
    return parseIndex((await this.#records.read(indexRecord))?.value);
  }

  async #textOf(row: PolicyRow): Promise<string> {
    const document = await this.#records.read(textRecord(row.digest));
    const text = isObject(document?.value) ? document.value["text"] : undefined;
    if (typeof text !== "string" || this.#digestOf({ language: row.language, text }) !== row.digest)
      throw corrupt(`the text of the policy ${row.id} is gone or damaged`);
    return text;
  }

  async #compile(upload: PolicyUpload): Promise<void> {
    const engine = this.#engine(upload.language);
    if (upload.purpose === "release") await engine.compileRelease(upload.text, upload.id);
    else if (engine.compileAppraisal === undefined) throw refused(`policies in ${upload.language} cannot appraise`);
    else await engine.compileAppraisal(upload.text, upload.id);
  }

  #digestOf({ language, text }: Pick<StoredPolicy, "language" | "text">): string {
    return (this.#engine(language).digestOf ?? digestOfText)(text);
  }

  #engine(language: PolicyLanguage): PolicyEngine {
    const engine = this.#engines.find((candidate) => candidate.language === language);
    if (engine === undefined) throw refused(`this service does not interpret policies in ${language}`);
    return engine;
  }
}

/** How closely a pattern fits: the length of its text before the first wildcard. */
function closeness(pattern: string): number {
  const star = pattern.indexOf("*");
  return star < 0 ? Number.MAX_SAFE_INTEGER : star;
}

function allOf(policies: readonly ResourcePolicy[]): ResourcePolicy {
  return {
    id: policies.map(({ id }) => id).join("+"),
    digest: digestOfText(policies.map(({ digest }) => digest).join("\n")),
    evaluate: async (input: ReleaseInput): Promise<PolicyDecision> => {
      const decisions: PolicyDecision[] = [];
      for (const policy of policies) decisions.push(await policy.evaluate(input));
      return { allow: decisions.every(({ allow }) => allow), reasons: decisions.flatMap(({ reasons }) => reasons) };
    },
  };
}

function checkUpload(upload: PolicyUpload): void {
  if (!idGrammar.test(upload.id)) throw refused(`${JSON.stringify(upload.id.slice(0, 80))} is not the id of a policy`);
  if (!patternGrammar.test(upload.resources))
    throw refused(`${JSON.stringify(upload.resources.slice(0, 80))} is not a pattern of resource paths`);
  if (Buffer.byteLength(upload.text) > maxTextBytes) throw refused(`a policy has at most ${maxTextBytes} bytes`);
}

function isSame(row: PolicyRow, other: { readonly purpose: PolicyPurpose; readonly id: string }): boolean {
  return row.purpose === other.purpose && row.id === other.id;
}

function keep<T>(cache: Map<string, T>, key: string, value: T): void {
  if (cache.size >= maxCompiled) cache.clear();
  cache.set(key, value);
}

function textRecord(digest: string): string {
  return `policy/${digest.slice("sha256:".length)}`;
}

function indexOf(policies: readonly PolicyRow[]): unknown {
  if (policies.length > maxPolicies) throw refused(`at most ${maxPolicies} policies`);
  return { format: "ociseal-kbs-policies/1", policies };
}

/** The rows of documents: records that are kept open give the same document for every request. */
const parsedIndexes = new WeakMap<object, readonly PolicyRow[]>();

function parseIndex(value: unknown): readonly PolicyRow[] {
  if (value === undefined) return [];
  if (!isObject(value) || !Array.isArray(value["policies"])) throw corrupt(`the record ${indexRecord} has an unknown format`);
  const known = parsedIndexes.get(value) ?? value["policies"].map(parseRow);
  parsedIndexes.set(value, known);
  return known;
}

function parseRow(value: unknown): PolicyRow {
  if (!isObject(value)) throw damagedRow();
  const { id, purpose, resources, digest, createdAt, createdBy, version } = value;
  const language = policyLanguages.find((known) => known === value["language"]);
  if (typeof id !== "string" || (purpose !== "release" && purpose !== "appraisal") || language === undefined) throw damagedRow();
  if (typeof resources !== "string" || typeof digest !== "string" || typeof version !== "number") throw damagedRow();
  if (typeof createdAt !== "string" || typeof createdBy !== "string") throw damagedRow();
  return { id, purpose, language, resources, digest, createdAt, createdBy, version };
}

function damagedRow(): KbsError {
  return corrupt(`the record ${indexRecord} has a damaged row`);
}

function corrupt(message: string): KbsError {
  return new KbsError("ERR_KBS_RECORD_CORRUPT", { message, hint: "restore it from a backup" });
}

function refused(message: string): KbsError {
  return new KbsError("ERR_KBS_REQUEST_REFUSED", { message });
}
