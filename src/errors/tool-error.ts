import type { ErrorCategory } from "./categories.ts";

/** One code of a room's error table: its category, and one sentence for the error catalogue. */
export interface ErrorRow {
  readonly category: ErrorCategory;
  readonly summary: string;
}

/** All codes that a room can throw, keyed by the stable code (`ERR_ROOM_WHAT`). */
export type ErrorTable = Readonly<Record<string, ErrorRow>>;

/** What one thrown error says beyond its code. Nothing secret may stand in any of it. */
export interface ErrorFacts {
  /** What failed, on which object: expected and got. */
  readonly message: string;
  /** The next thing to do. */
  readonly hint?: string | undefined;
  /** Machine-readable facts for `--json`; plain JSON values only. */
  readonly details?: Readonly<Record<string, unknown>> | undefined;
  readonly cause?: unknown;
}

/**
 * Base of every error that this package throws on purpose.
 *
 * A room declares `const table = {…} as const satisfies ErrorTable` and one class per table in its `errors.ts`:
 *
 * ```ts
 * export class LayerError extends ToolError<keyof typeof layerErrors> {
 *   constructor(code: keyof typeof layerErrors, facts: ErrorFacts) { super(code, layerErrors[code].category, facts); }
 * }
 * ```
 *
 * Codes are stable for ever; messages are not.
 */
export abstract class ToolError<Code extends string = string> extends Error {
  readonly code: Code;
  readonly category: ErrorCategory;
  readonly hint: string | undefined;
  readonly details: Readonly<Record<string, unknown>>;

  protected constructor(code: Code, category: ErrorCategory, facts: ErrorFacts) {
    super(facts.message, facts.cause === undefined ? undefined : { cause: facts.cause });
    this.name = new.target.name;
    this.code = code;
    this.category = category;
    this.hint = facts.hint;
    this.details = facts.details ?? {};
  }
}

/** An invariant of our own that broke: a defect here, never bad input. */
export class InternalError extends ToolError<"ERR_INTERNAL"> {
  constructor(facts: ErrorFacts) {
    super("ERR_INTERNAL", "internal", {
      ...facts,
      hint: facts.hint ?? "this is a defect in ociseal; please report it with the command that you ran",
    });
  }
}

/** The message of whatever was thrown, for use inside another message. */
export function describeCause(cause: unknown): string {
  return cause instanceof Error ? cause.message : String(cause);
}
