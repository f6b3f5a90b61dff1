import { createHash } from "node:crypto";
import { decodeBase64 } from "../../bytes/index.ts";
import { ToolError, describeCause } from "../../errors/index.ts";
import type { PolicyOutcome, PolicyQuestion } from "../question.ts";
import { appraisalOf, type AppraisalOutcome, type AppraisalQuestion } from "../appraisal.ts";
import { isOpaBundle, readOpaBundle, refused } from "./bundle.ts";
import { failed, PolicyThreads, type PolicyThreadsOptions } from "./policy-threads.ts";
import type { ThreadQuestion } from "./thread-messages.ts";
import { webAssembly, type WasmModule } from "./web-assembly.ts";

/** A resource policy that OPA compiled. */
export interface WasmReleasePolicy {
  readonly id: string;
  /** `sha256:` of the bundle, as sha256sum says it. */
  readonly digest: string;
  /** Allows when `data.policy.allow` is `true`, and denies in every other case, with `data.policy.reasons` if there are any. */
  evaluate(question: PolicyQuestion): Promise<PolicyOutcome>;
}

/** An attestation policy that OPA compiled. */
export interface WasmAppraisalPolicy {
  readonly id: string;
  readonly digest: string;
  /** As policies in Rego do; throws `ERR_POLICY_FAILED`. */
  appraise(question: AppraisalQuestion): Promise<AppraisalOutcome>;
}

/**
 * Policies that `opa build -t wasm` compiled, for whoever needs all of Rego. A text is the base64 of a bundle.
 *
 * Compiling throws `ERR_POLICY_NOT_UNDERSTOOD` for what is no such bundle, lacks the entrypoint that is asked, or needs
 * functions that are not offered; `ERR_POLICY_ENGINE_MISSING` when the optional package is not installed.
 */
export interface WasmPolicies {
  compileRelease(text: string, id?: string): Promise<WasmReleasePolicy>;
  compileAppraisal(text: string, id?: string): Promise<WasmAppraisalPolicy>;
  close(): Promise<void>;
}

const allow = "policy/allow";
const why = "policy/reasons";
const trustClaims = "policy/trust_claims";
const extensions = "policy/extensions";
const functionNames = new Set(["memory", "opa_abort", "opa_println", ...[0, 1, 2, 3, 4].map((count) => `opa_builtin${count}`)]);
const maxReasons = 20;
const maxReasonLength = 300;
/** A policy names what it needs as it runs; more rounds than this are no policy but a game. */
const maxRounds = 16;
const maxReferences = 256;

interface Compiled {
  readonly digest: string;
  readonly module: WasmModule;
  readonly data: Readonly<Record<string, unknown>>;
}

/** Opens the threads that evaluate compiled policies; none is started before it is needed. */
export function wasmPolicies(options: PolicyThreadsOptions = {}): WasmPolicies {
  const threads = new PolicyThreads(options);
  return {
    compileRelease: async (text, id = "policy") => {
      const compiled = await compile(threads, text, allow);
      return { id, digest: compiled.digest, evaluate: (question) => release(threads, compiled, question) };
    },
    compileAppraisal: async (text, id = "policy") => {
      const compiled = await compile(threads, text, trustClaims);
      return { id, digest: compiled.digest, appraise: (question) => appraise(threads, compiled, question) };
    },
    close: () => threads.close(),
  };
}

/** A bundle as the text of a policy. */
export function textOfOpaBundle(bytes: Uint8Array): string | undefined {
  return isOpaBundle(bytes) ? Buffer.from(bytes).toString("base64") : undefined;
}

/** `sha256:` of the bundle that a text holds. */
export function digestOfOpaBundle(text: string): string {
  return `sha256:${createHash("sha256").update(decodeBase64(text, "the compiled policy")).digest("hex")}`;
}

async function compile(threads: PolicyThreads, text: string, entrypoint: string): Promise<Compiled> {
  let bytes: Buffer;
  try {
    bytes = decodeBase64(text, "the compiled policy");
  } catch (cause) {
    throw refused(`it is not base64 (${describeCause(cause)})`);
  }
  const { wasm, data } = await readOpaBundle(bytes);
  const digest = digestOfOpaBundle(text);
  let module: WasmModule;
  try {
    module = await webAssembly.compile(wasm);
  } catch (cause) {
    throw refused(`its policy.wasm is not WebAssembly (${describeCause(cause).slice(0, 200)})`);
  }
  const foreign = webAssembly.Module.imports(module).find(({ module: from, name }) => from !== "env" || !functionNames.has(name));
  if (foreign !== undefined)
    throw refused(`its policy.wasm wants ${foreign.module}.${foreign.name.slice(0, 80)}, which no policy of OPA does`);
  const exported = new Set(webAssembly.Module.exports(module).map(({ name }) => name));
  const lacking = ["opa_eval", "opa_malloc", "opa_json_parse", "opa_json_dump", "opa_heap_ptr_set", "entrypoints", "builtins"].find(
    (name) => !exported.has(name),
  );
  if (lacking !== undefined) throw refused(`its policy.wasm has no ${lacking}`, "OPA 0.27 and later write what is needed (ABI 1.2)");
  const description = await threads.ask({ digest, module });
  if (description.kind !== "described") throw refused(description.kind === "failed" ? description.message : "it says nothing about itself");
  const { abi, entrypoints, unknownFunctions } = description;
  if (!/^1\.[2-9]$/.test(abi)) throw refused(`it is of ABI ${abi}, not 1.2 or a later 1.x`);
  if (!entrypoints.includes(entrypoint))
    throw refused(
      `it has no entrypoint ${entrypoint} but ${entrypoints.join(", ").slice(0, 200) || "none"}`,
      `build it with: -e ${entrypoint}`,
    );
  if (unknownFunctions.length > 0)
    throw refused(
      `it calls ${unknownFunctions.slice(0, 5).join(", ").slice(0, 200)}, which WebAssembly does not have and nothing here offers`,
    );
  return { digest, module, data };
}

async function release(threads: PolicyThreads, compiled: Compiled, question: PolicyQuestion): Promise<PolicyOutcome> {
  const { plugin, resourcePath, query, claims, now } = question;
  const data = { ...compiled.data, plugin, "resource-path": [...resourcePath], query };
  const asked = { data, input: claims, nowNs: now.getTime() * 1e6 };
  const answer = async (entrypoint: string): Promise<unknown> => {
    const question = { ...asked, entrypoints: [entrypoint] };
    return (await ask(threads, compiled, { question, referenceValue: () => undefined }))[0];
  };
  try {
    const value = await answer(allow);
    if (value === true) return { allow: true, reasons: ["the policy's rule allow is true"] };
    const what = value === undefined ? "has no value" : value === false ? "is false" : `is no boolean but ${typeof value}`;
    return { allow: false, reasons: [`the policy's rule allow ${what}`, ...textsOf(await answer(why))] };
  } catch (error) {
    // Whatever keeps a policy from answering denies; a defect of ours must be seen, though.
    if (error instanceof ToolError) return { allow: false, reasons: [error.message] };
    throw error;
  }
}

async function appraise(threads: PolicyThreads, compiled: Compiled, question: AppraisalQuestion): Promise<AppraisalOutcome> {
  const { input, now } = question;
  const [claims, more] = await ask(threads, compiled, {
    question: { data: compiled.data, input, entrypoints: [trustClaims, extensions], nowNs: now.getTime() * 1e6 },
    referenceValue: (name) => question.referenceValue(name),
  });
  return appraisalOf(claims, more);
}

/** Asks until the policy has all the reference values that it names. */
async function ask(
  threads: PolicyThreads,
  { digest, module }: Compiled,
  request: { readonly question: Omit<ThreadQuestion, "references">; readonly referenceValue: (name: string) => unknown },
): Promise<readonly unknown[]> {
  const references = new Map<string, unknown>();
  for (let round = 0; round < maxRounds; round += 1) {
    const reply = await threads.ask({ digest, module, question: { ...request.question, references } });
    if (reply.kind === "answered") return reply.values;
    if (reply.kind !== "needs") throw failed(reply.kind === "failed" ? reply.message : "it gave no answer");
    if (references.size + reply.names.length > maxReferences) throw failed(`it asks for more than ${maxReferences} reference values`);
    for (const name of reply.names) references.set(name, request.referenceValue(name));
  }
  throw failed(`it asks for other reference values each time`);
}

/** What a policy says about its decision: texts, few and short. */
function textsOf(value: unknown): readonly string[] {
  if (!Array.isArray(value)) return [];
  return value
    .filter((text: unknown) => typeof text === "string")
    .slice(0, maxReasons)
    .map((text) => text.slice(0, maxReasonLength));
}
