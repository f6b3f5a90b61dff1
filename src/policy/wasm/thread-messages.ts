import type { WasmModule } from "./web-assembly.ts";

/** What is asked of a policy thread. */
export interface ThreadRequest {
  readonly id: number;
  /** Tells modules apart: a module that was sent twice is two objects. */
  readonly digest: string;
  /** Compiled where the thread was started from; threads share its code. */
  readonly module: WasmModule;
  readonly maxPages: number;
  /** Absent: only say what the module is. */
  readonly question?: ThreadQuestion | undefined;
}

export interface ThreadQuestion {
  readonly data: Readonly<Record<string, unknown>>;
  readonly input: unknown;
  /** Evaluated one after the other; one that the module does not have gives `undefined`. */
  readonly entrypoints: readonly string[];
  /** Nanoseconds since 1970, for `time.now_ns`. */
  readonly nowNs: number;
  /** Reference values that are known so far, by name. */
  readonly references: ReadonlyMap<string, unknown>;
}

/** Sent first, for each question: from here on its time counts. */
export interface ThreadBegun {
  readonly kind: "begun";
}

export type ThreadReply =
  /** The optional package is not installed. */
  | { readonly kind: "missing"; readonly message: string }
  | {
      readonly kind: "described";
      readonly id: number;
      readonly entrypoints: readonly string[];
      /** Functions of Rego that the module calls and nothing here offers. */
      readonly unknownFunctions: readonly string[];
      readonly abi: string;
    }
  /** One per entrypoint: the rule's value, or `undefined`. */
  | { readonly kind: "answered"; readonly id: number; readonly values: readonly unknown[] }
  /** The policy asked for reference values that were not given. */
  | { readonly kind: "needs"; readonly id: number; readonly names: readonly string[] }
  | { readonly kind: "failed"; readonly id: number; readonly message: string };
