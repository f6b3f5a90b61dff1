import { PassThrough } from "node:stream";
import { stripVTControlCharacters } from "node:util";
import { describe, expect, it } from "vitest";
import { logGroup } from "../../cli/log-group.ts";
import { showProgress } from "../../cli/progress.ts";
import { makeShell, paint, type ProgressMode, type Shell } from "../../cli/shell.ts";
import { printFailure } from "../../cli/failure.ts";
import { makeProgram } from "../../cli/program.ts";
import { counted, formatSize, formatTable, printable, wrapped } from "../../cli/table.ts";
import type { CopyEvent } from "../../src/store/index.ts";

const header = ["IMAGE", "LAYER", "DIGEST", "RECIPIENTS"];
const rows = [["linux/amd64", "0", `sha256:${"ab".repeat(32)}`, "kbs:///default/image-key/95dbbc28-19cd-418d-bd97-c905735cbbb7"]];
const widest = (text: string): number => Math.max(...text.split("\n").map((line) => line.length));

describe("a table", () => {
  it("is not cut where another program may read it", () => {
    const text = formatTable(header, rows, undefined);
    expect(text).toContain(rows[0]?.[2]);
    expect(text).toContain(rows[0]?.[3]);
  });

  it("fits the terminal, the widest columns giving way, and keeps what names a row", () => {
    for (const width of [120, 80, 60]) {
      const text = formatTable(header, rows, width);
      expect(widest(text), text).toBeLessThanOrEqual(width);
      expect(text).toContain("linux/amd64  0 ");
      expect(text).toContain("…");
    }
    // A recorder without a terminal behind it says 0.
    expect(formatTable(header, rows, 0)).toBe(formatTable(header, rows, undefined));
    expect(formatTable(["A", "B"], [["1", "2"]], 80)).toBe("A  B\n1  2");
  });

  it("lets no foreign text steer the terminal", () => {
    expect(printable("a\u001b[31mb\u202ec\n")).toBe("a\\u001b[31mb\\u202ec\\u000a");
    expect(formatTable(["A"], [["\u001b]0;title\u0007"]], 80)).not.toContain("\u001b");
    expect([0, 1023, 1536, 10 * 2 ** 20, 2 ** 50].map(formatSize)).toEqual(["0 B", "1023 B", "1.5 KiB", "10 MiB", "1024 TiB"]);
  });
});

describe("a line of text", () => {
  it("breaks between words on a terminal, its rest indented, and nowhere else", () => {
    const text = "readable by anyone: 2 environment variables, 1 label";
    expect(wrapped(text, 30)).toBe("readable by anyone: 2\n  environment variables, 1\n  label");
    for (const width of [undefined, 0, 52]) expect(wrapped(text, width)).toBe(text);
    const digest = `sha256:${"ab".repeat(32)}`;
    expect(wrapped(`it is ${digest} now`, 40)).toBe(`it is\n  ${digest}\n  now`);
    expect(wrapped(`       ${digest} now`, 40, "       ")).toBe(`       ${digest}\n       now`);
  });

  it("counts one thing in the singular", () => {
    expect([0, 1, 2].map((count) => counted(count, "layer"))).toEqual(["0 layers", "1 layer", "2 layers"]);
    expect(counted(2, "entry", "entries")).toBe("2 entries");
  });
});

describe("a failure", () => {
  const error = {
    code: "ERR_TEST",
    message: "the layer does not match what its manifest says about it, neither in its size nor in its digest",
    hint: "fetch it again from its source, and tell its owner if it stays so",
    causes: ["a cause that is so long that it does not fit into a line of this terminal either, so it is broken"],
  };
  const printed = (tty: boolean, env: Record<string, string>): string => {
    const { shell, written } = shellWith({ tty, env });
    printFailure(shell, false, { exitCode: 6, document: { error } });
    return written();
  };

  it("fits the terminal, in colour or without", () => {
    const text = printed(true, { NO_COLOR: "1" });
    expect(widest(text), text).toBeLessThanOrEqual(80);
    expect(text).toMatch(/^error: the layer .*\n {7}\S.*\n {7}a cause .*\n {7}\S.*\nhint: {2}fetch it again [^\n]*\n$/);
    expect(stripVTControlCharacters(printed(true, {}))).toBe(text);
  });

  it("is a line for the fact and one for the advice elsewhere", () => {
    const lines = [`error: ${error.message} [ERR_TEST]`, `       ${error.causes[0]}`, `hint:  ${error.hint}`, ""];
    expect(printed(false, {})).toBe(lines.join("\n"));
  });
});

describe("the list of commands", () => {
  it("fits a terminal of 80 columns", () => {
    const help = makeProgram({ launch: () => async () => undefined }, { json: false, width: 80 }).helpInformation();
    expect(widest(help), help).toBeLessThanOrEqual(80);
    expect(help).toMatch(/^ {2}encrypt +encrypt an image's layers/m);
  });
});

function shellWith(settings: { env?: Record<string, string>; tty?: boolean; progress?: ProgressMode; quiet?: boolean }): {
  shell: Shell;
  readonly written: () => string;
} {
  const stderr = Object.assign(new PassThrough(), { isTTY: settings.tty === true, columns: 80 });
  const chunks: string[] = [];
  stderr.on("data", (chunk: Buffer) => chunks.push(chunk.toString()));
  const base = {
    stdin: process.stdin,
    stdout: new PassThrough().resume(),
    stderr,
    env: settings.env ?? {},
    signal: new AbortController().signal,
    exitWith: () => undefined,
  };
  const shell = makeShell(base, { progress: settings.progress ?? "auto", quiet: settings.quiet === true });
  return { shell, written: () => chunks.join("") };
}

const digest = `sha256:${"cd".repeat(32)}` as const;
const descriptor = { mediaType: "application/vnd.oci.image.layer.v1.tar+gzip", digest, size: 2048 };
const events: readonly CopyEvent[] = [
  { kind: "started", descriptor },
  { kind: "moved", descriptor, size: 2048 },
  { kind: "finished", descriptor, outcome: "pushed" },
] as unknown as readonly CopyEvent[];

async function shown(settings: Parameters<typeof shellWith>[0]): Promise<string> {
  const { shell, written } = shellWith(settings);
  const progress = await showProgress(shell);
  for (const event of events) progress.onProgress(event);
  progress.stop();
  return written();
}

describe("progress", () => {
  it("is a plain line per layer where nobody watches, and in pipelines with a terminal", async () => {
    expect(await shown({})).toBe("cdcdcdcdcdcd 2.0 KiB\n");
    expect(await shown({ tty: true, env: { CI: "true" } })).toBe("cdcdcdcdcdcd 2.0 KiB\n");
  });

  it("is a JSON document per event on demand, and silence with --quiet", async () => {
    const lines = (await shown({ progress: "json" })).trim().split("\n");
    expect(lines.map((line) => (JSON.parse(line) as { kind: string }).kind)).toEqual(["started", "moved", "finished"]);
    expect(await shown({ quiet: true })).toBe("");
    expect(await shown({ progress: "none" })).toBe("");
  });
});

describe("bars", () => {
  const big = { ...descriptor, size: 1 << 20 };
  const written = async (work: (shell: Shell, onProgress: (event: CopyEvent) => void) => void): Promise<string> => {
    const { shell, written: text } = shellWith({ tty: true });
    const progress = await showProgress(shell);
    work(shell, progress.onProgress);
    progress.stop();
    shell.note("after");
    return stripVTControlCharacters(text());
  };

  it("are for layers, not for the small parts of an image, and leave no empty line", async () => {
    expect(await written((_, onProgress) => events.forEach(onProgress))).toBe("after\n");
  });

  it("let lines through above or below, never into the middle of one", async () => {
    const text = await written((shell, onProgress) => {
      onProgress({ kind: "started", descriptor: big });
      shell.note("keys at hand");
      shell.warn("careful");
      onProgress({ kind: "moved", descriptor: big, size: 1 << 20 });
    });
    expect(text).toContain("100% 1.0 MiB/1.0 MiB");
    const lines = text.split(/[\n\r]/).map((line) => line.trimEnd());
    expect(lines).toEqual(expect.arrayContaining(["keys at hand", "warning: careful", "after"]));
  });
});

describe("colour", () => {
  it("is for terminals, and respects NO_COLOR and dumb ones", () => {
    expect(paint(shellWith({ tty: true }).shell, "31", "x")).toBe("\u001b[31mx\u001b[0m");
    for (const env of [{ NO_COLOR: "1" }, { TERM: "dumb" }]) expect(paint(shellWith({ tty: true, env }).shell, "31", "x")).toBe("x");
    expect(paint(shellWith({}).shell, "31", "x")).toBe("x");
  });
});

describe("the log of a pipeline", () => {
  it("folds the work on each image at GitHub and GitLab, and nowhere else", () => {
    const fold = (env: Record<string, string>, quiet = false): string => {
      const { shell, written } = shellWith({ env, quiet });
      const group = logGroup(shell, () => 5000);
      group.open("[1/2] a b");
      group.close();
      return written();
    };
    expect(fold({ GITHUB_ACTIONS: "true" })).toBe("::group::[1/2] a b\n::endgroup::\n");
    expect(fold({ GITLAB_CI: "true" })).toBe(
      "\u001b[0Ksection_start:5:ociseal_1[collapsed=true]\r\u001b[0K[1/2] a b\n\u001b[0Ksection_end:5:ociseal_1\r\u001b[0K\n",
    );
    expect(fold({})).toBe("");
    expect(fold({ GITHUB_ACTIONS: "true" }, true)).toBe("");
  });
});
