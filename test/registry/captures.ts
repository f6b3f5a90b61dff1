import assert from "node:assert/strict";
import type { FaultServer } from "./fault-server.ts";

/** Everything that must never leave for the wrong place, in all the spellings in which it could. */
export class Secrets {
  readonly #texts = new Set<string>();

  constructor(...texts: readonly string[]) {
    for (const text of texts) this.add(text);
  }

  add(text: string): void {
    this.#texts.add(text);
    this.#texts.add(encodeURIComponent(text));
    this.#texts.add(Buffer.from(text).toString("base64"));
    this.#texts.add(Buffer.from(text).toString("base64").replaceAll("=", ""));
  }

  addPair(username: string, password: string): void {
    this.add(password);
    this.add(`${username}:${password}`);
  }

  /** The suite's one rule: a server that is not the registry or its token service has seen nothing of ours. */
  expectAbsentAt(server: FaultServer): void {
    for (const request of server.requests) {
      this.expectAbsentIn(JSON.stringify(request));
      for (const name of ["authorization", "cookie", "proxy-authorization"]) assert.equal(request.headers[name], undefined);
    }
  }

  /** Messages, hints, details, causes and notices must not tell them either. */
  expectAbsentIn(text: string): void {
    for (const secret of this.#texts) assert(!text.includes(secret), "a secret was captured");
  }

  expectAbsentInError(error: unknown): void {
    for (let at: unknown = error; at instanceof Error; at = at.cause) {
      this.expectAbsentIn(`${at.message} ${at.stack ?? ""} ${JSON.stringify(at)}`);
    }
  }
}

/** The error that a promise ends with; fails the test when it does not. */
export async function errorOf(
  promise: Promise<unknown>,
): Promise<Error & { readonly code?: string; readonly hint?: string; readonly category?: string }> {
  try {
    await promise;
  } catch (error) {
    if (error instanceof Error) return error;
  }
  throw new Error("expected a failure");
}
