import { createHash, randomUUID } from "node:crypto";
import { mkdir, readFile, rename, writeFile } from "node:fs/promises";
import { join } from "node:path";

/** One cached answer. */
export interface CachedAnswer {
  readonly url: string;
  /** RFC 3339. */
  readonly fetchedAt: string;
  /** Milliseconds since the epoch until which it may be used without asking again; absent: for ever. */
  readonly freshUntil?: number | undefined;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Uint8Array;
}

/** Keeps vendor answers between runs. What it returns is verified like a fresh answer, so a damaged entry only costs a fetch. */
export interface CollateralCache {
  load(url: string): Promise<CachedAnswer | undefined>;
  save(answer: CachedAnswer): Promise<void>;
}

/** A cache for one process. */
export function memoryCache(): CollateralCache {
  const answers = new Map<string, CachedAnswer>();
  return {
    load: (url) => Promise.resolve(answers.get(url)),
    save: (answer) => {
      answers.set(answer.url, answer);
      return Promise.resolve();
    },
  };
}

/** A cache in a folder: one file per address, replaced by rename. */
export function directoryCache(directory: string): CollateralCache {
  const pathOf = (url: string) => join(directory, `${createHash("sha256").update(url).digest("hex")}.json`);
  return {
    load: async (url) => {
      let text: string;
      try {
        text = await readFile(pathOf(url), "utf8");
      } catch {
        // Not cached yet.
        return undefined;
      }
      return parseEntry(text, url);
    },
    save: async (answer) => {
      await mkdir(directory, { recursive: true });
      const temporary = join(directory, `.${randomUUID()}`);
      const { body, ...rest } = answer;
      await writeFile(temporary, JSON.stringify({ ...rest, body: Buffer.from(body).toString("base64") }), { mode: 0o600 });
      await rename(temporary, pathOf(answer.url));
    },
  };
}

function parseEntry(text: string, url: string): CachedAnswer | undefined {
  try {
    const entry = JSON.parse(text) as Readonly<Record<string, unknown>>;
    const { fetchedAt, freshUntil, headers, body } = entry;
    if (
      entry["url"] !== url ||
      typeof fetchedAt !== "string" ||
      typeof body !== "string" ||
      typeof headers !== "object" ||
      headers === null
    )
      return undefined;
    return {
      url,
      fetchedAt,
      freshUntil: typeof freshUntil === "number" ? freshUntil : undefined,
      headers: Object.fromEntries(Object.entries(headers).map(([name, value]) => [name, String(value)])),
      body: Buffer.from(body, "base64"),
    };
  } catch {
    // A damaged entry is no entry.
    return undefined;
  }
}
