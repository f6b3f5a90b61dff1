import { randomUUID } from "node:crypto";
import type { DigestAlgorithm } from "../bytes/index.ts";
import { Refusal } from "./refusal.ts";
import type { PendingUpload, RegistryStorage } from "./storage.ts";

/** One upload between its POST and its last PUT. */
export interface UploadSession {
  readonly id: string;
  readonly repository: string;
  readonly principal: string | undefined;
  readonly upload: PendingUpload;
  /** By the machine's clock, as the times of files are. */
  readonly beganAt: number;
  touchedAt: number;
  /** The request that uses the session now. A newer one ends it: its client has given it up. */
  current: { readonly abort: () => void; readonly done: Promise<unknown> } | undefined;
}

/** All unfinished uploads: bounded in number, and in the time that nobody touches them. */
export class UploadSessions {
  readonly #sessions = new Map<string, UploadSession>();
  readonly #storage: RegistryStorage;
  readonly #limits: { readonly maxUploads: number; readonly uploadIdleMs: number };
  readonly #now: () => number;

  constructor(storage: RegistryStorage, limits: { readonly maxUploads: number; readonly uploadIdleMs: number }, now: () => number) {
    this.#storage = storage;
    this.#limits = limits;
    this.#now = now;
  }

  get size(): number {
    return this.#sessions.size;
  }

  async begin(repository: string, algorithm: DigestAlgorithm, principal: string | undefined): Promise<UploadSession> {
    await this.sweep();
    if (this.#sessions.size >= this.#limits.maxUploads) {
      throw new Refusal("TOOMANYREQUESTS", {
        message: `there are already ${this.#sessions.size} unfinished uploads`,
        headers: { "retry-after": "30" },
      });
    }
    const upload = await this.#storage.beginUpload(algorithm);
    const session: UploadSession = {
      id: randomUUID(),
      repository,
      principal,
      upload,
      beganAt: Date.now(),
      touchedAt: this.#now(),
      current: undefined,
    };
    this.#sessions.set(session.id, session);
    return session;
  }

  /** Throws `BLOB_UPLOAD_UNKNOWN` for a session that is not there, or is another repository's or user's. */
  find(id: string, repository: string, principal: string | undefined): UploadSession {
    const session = this.#sessions.get(id);
    if (session === undefined || session.repository !== repository || session.principal !== principal) {
      throw new Refusal("BLOB_UPLOAD_UNKNOWN", { message: `no upload session ${id} in ${repository}` });
    }
    session.touchedAt = this.#now();
    return session;
  }

  /** Runs a use of the session alone: a request that still uses it is ended first, and what it received stays. */
  async use<T>(session: UploadSession, abort: () => void, work: () => Promise<T>): Promise<T> {
    while (session.current !== undefined) {
      session.current.abort();
      await session.current.done;
    }
    const running = work();
    const current = {
      abort,
      done: running.then(
        () => undefined,
        () => undefined,
      ),
    };
    session.current = current;
    try {
      return await running;
    } finally {
      if (session.current === current) session.current = undefined;
      session.touchedAt = this.#now();
    }
  }

  /** Takes a finished session out; its upload now belongs to the caller. */
  release(session: UploadSession): void {
    this.#sessions.delete(session.id);
  }

  async discard(session: UploadSession): Promise<void> {
    this.release(session);
    await session.upload.discard();
  }

  /** When the oldest unfinished upload to a repository began. */
  oldest(repository: string): number | undefined {
    let oldest: number | undefined;
    for (const session of this.#sessions.values()) {
      if (session.repository === repository && (oldest === undefined || session.beganAt < oldest)) oldest = session.beganAt;
    }
    return oldest;
  }

  /** Throws away what nobody touched for too long. */
  async sweep(): Promise<void> {
    const oldest = this.#now() - this.#limits.uploadIdleMs;
    for (const session of this.#sessions.values()) {
      if (session.touchedAt < oldest && session.current === undefined) await this.discard(session);
    }
  }

  async close(): Promise<void> {
    for (const session of this.#sessions.values()) {
      session.current?.abort();
      await session.current?.done;
      await this.discard(session);
    }
  }
}
