import { mkdtempSync, existsSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** What the played kernel answers. */
export interface PlayedKernel {
  readonly tsmPath: string;
  /** The bytes written to `inblob`, one per report. */
  readonly asked: readonly Buffer[];
  readonly privlevels: readonly string[];
  stop(): void;
}

/** Plays configfs-tsm in a folder: gives new entries their files, and answers `inblob` with `outblob`. */
export function playKernel(options: {
  readonly provider: string;
  readonly answer: (inblob: Buffer) => Buffer;
  readonly auxblob?: Buffer;
  /** Writes of somebody else that the generation counter shows, per entry. */
  readonly interference?: (entry: number) => number;
}): PlayedKernel {
  const tsmPath = mkdtempSync(join(tmpdir(), "ociseal-tsm-"));
  const asked: Buffer[] = [];
  const privlevels: string[] = [];
  const answered = new Set<string>();
  let entries = 0;
  const look = () => {
    for (const name of readdirSync(tsmPath)) {
      const entry = join(tsmPath, name);
      try {
        serve(entry);
      } catch {
        // The entry went away while we looked, as entries do.
        continue;
      }
    }
  };
  const serve = (entry: string) => {
    if (!existsSync(join(entry, "provider"))) {
      writeFileSync(join(entry, "generation"), "0\n");
      writeFileSync(join(entry, "auxblob"), options.auxblob ?? Buffer.alloc(0));
      writeFileSync(join(entry, "provider"), `${options.provider}\n`);
      entries += 1;
    }
    const inblob = join(entry, "inblob");
    if (answered.has(entry) || !existsSync(inblob) || statSync(inblob).size === 0) return;
    answered.add(entry);
    const data = readFileSync(inblob);
    asked.push(data);
    const level = existsSync(join(entry, "privlevel")) ? readFileSync(join(entry, "privlevel"), "utf8") : undefined;
    if (level !== undefined) privlevels.push(level);
    writeFileSync(join(entry, "generation"), `${(level === undefined ? 1 : 2) + (options.interference?.(asked.length) ?? 0)}\n`);
    writeFileSync(join(entry, "outblob"), options.answer(data));
  };
  const timer = setInterval(look, 2);
  return {
    tsmPath,
    asked,
    privlevels,
    stop: () => {
      clearInterval(timer);
      rmSync(tsmPath, { recursive: true, force: true });
      void entries;
    },
  };
}
