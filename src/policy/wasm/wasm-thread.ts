/**
 * What a policy thread runs. The module sees what it is asked and nothing else: it has no files, no network, no clock but
 * ours. Time is limited from outside, by ending the thread.
 */
import { parentPort } from "node:worker_threads";
import { describeCause } from "../../errors/index.ts";
import type { ThreadBegun, ThreadQuestion, ThreadReply, ThreadRequest } from "./thread-messages.ts";
import { webAssembly, type WasmMemory } from "./web-assembly.ts";

/** What this needs of the package's loaded policy. */
interface Loaded {
  readonly mem: WasmMemory;
  readonly wasmInstance: unknown;
  readonly entrypoints: Readonly<Record<string, number>>;
  evaluate(input: unknown, entrypoint: number): unknown;
  setData(data: unknown): void;
}

interface Ready {
  readonly digest: string;
  readonly policy: Loaded;
  question: ThreadQuestion | undefined;
  readonly asked: Set<string>;
}

/** Functions that the package offers. Source: @open-policy-agent/opa-wasm, src/builtins. */
const offered = new Set([
  "json.is_valid",
  "sprintf",
  "regex.split",
  "yaml.is_valid",
  "yaml.marshal",
  "yaml.unmarshal",
  "time.now_ns",
  "query_reference_value",
]);

const firstPages = 32;
/** The one policy that was asked last stays loaded: loading takes longer than asking. */
let kept: Ready | undefined;

async function load({ digest, module, maxPages }: ThreadRequest): Promise<Ready> {
  const { loadPolicy } = await import("@open-policy-agent/opa-wasm");
  const asked = new Set<string>();
  const ready: { question: ThreadQuestion | undefined } = { question: undefined };
  const functions = {
    "time.now_ns": () => ready.question?.nowNs ?? 0,
    query_reference_value: (name: unknown) => {
      if (typeof name !== "string") throw new Error("query_reference_value takes a text");
      if (ready.question?.references.has(name) === true) return ready.question.references.get(name) ?? null;
      asked.add(name);
      return null;
    },
  };
  for (let initial = firstPages; ; initial *= 2) {
    try {
      const policy = (await loadPolicy(module, { initial, maximum: maxPages }, functions)) as Loaded;
      return Object.assign(ready, { digest, policy, asked });
    } catch (cause) {
      // How much a module asks for at least cannot be read from it; too little memory is a link error.
      if (!(cause instanceof webAssembly.LinkError) || initial * 2 > maxPages) throw cause;
    }
  }
}

async function answer(request: ThreadRequest): Promise<ThreadReply> {
  const { id, question } = request;
  let ready: Ready;
  try {
    ready = kept?.digest === request.digest ? kept : await load(request);
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === "ERR_MODULE_NOT_FOUND") return { kind: "missing", message: describeCause(cause) };
    return { kind: "failed", id, message: `it cannot be loaded: ${messageOf(cause)}` };
  }
  kept = undefined;
  if (question === undefined) return { kind: "described", id, ...describe(ready.policy) };
  try {
    ready.question = question;
    ready.asked.clear();
    const { policy } = ready;
    policy.setData(question.data);
    const values = question.entrypoints.map((name) =>
      Object.hasOwn(policy.entrypoints, name) ? single(policy.evaluate(question.input, policy.entrypoints[name] ?? 0)) : undefined,
    );
    // After a failure the module is loaded anew: nobody knows in which state its memory is.
    kept = ready;
    return ready.asked.size > 0 ? { kind: "needs", id, names: [...ready.asked] } : { kind: "answered", id, values };
  } catch (cause) {
    return { kind: "failed", id, message: messageOf(cause) };
  }
}

/** `[{"result": value}]`, or `[]` for a rule without a value. Source: OPA, "WebAssembly", "Evaluation". */
function single(results: unknown): unknown {
  if (!Array.isArray(results) || results.length > 1) throw new Error("it has several results");
  const [first] = results as readonly unknown[];
  return typeof first === "object" && first !== null && "result" in first ? first.result : undefined;
}

interface Exports {
  readonly opa_wasm_abi_version?: { readonly value: number };
  readonly opa_wasm_abi_minor_version?: { readonly value: number };
  builtins(): number;
  opa_json_dump(address: number): number;
}

function describe({ wasmInstance, mem, entrypoints }: Loaded): { entrypoints: string[]; unknownFunctions: string[]; abi: string } {
  const { exports } = wasmInstance as { readonly exports: Exports };
  const bytes = Buffer.from(mem.buffer);
  const start = exports.opa_json_dump(exports.builtins());
  const functions: unknown = JSON.parse(bytes.toString("utf8", start, bytes.indexOf(0, start)));
  return {
    entrypoints: Object.keys(entrypoints),
    unknownFunctions: Object.keys(functions as object).filter((name) => !offered.has(name)),
    abi: `${exports.opa_wasm_abi_version?.value ?? "?"}.${exports.opa_wasm_abi_minor_version?.value ?? "?"}`,
  };
}

/** The package throws texts as well. */
function messageOf(cause: unknown): string {
  const text = typeof cause === "string" ? cause : (cause as { message?: unknown } | undefined)?.message;
  return (typeof text === "string" ? text : "unknown failure").slice(0, 300);
}

// What a module prints is nobody's business, and it can print a lot.
process.stdout.write = () => true;
process.stderr.write = () => true;

let queue = Promise.resolve();
parentPort?.on("message", (request: ThreadRequest) => {
  queue = queue.then(async () => {
    parentPort?.postMessage({ kind: "begun" } satisfies ThreadBegun, []);
    parentPort?.postMessage(await answer(request), []);
  });
});
