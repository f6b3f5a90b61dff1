import { appendFile, mkdtemp, readFile, rm, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PassThrough } from "node:stream";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { encrypt, type EncryptOptions } from "../../cli/actions/encrypt.ts";
import { keyGenerate } from "../../cli/actions/key-generate.ts";
import { rewrap } from "../../cli/actions/rewrap.ts";
import { sign } from "../../cli/actions/sign.ts";
import { verify } from "../../cli/actions/verify.ts";
import { parseList, parseShard } from "../../cli/from-file.ts";
import { makeShell, type Shell } from "../../cli/shell.ts";
import { makeHelloImage, pushImage } from "../../registry-fixtures/index.ts";
import type { ErrorCategory } from "../../src/errors/index.ts";
import { openLayout } from "../../src/store/index.ts";

interface Document {
  readonly summary: Readonly<Record<string, number>>;
  readonly items: readonly {
    readonly line: number;
    readonly outcome: string;
    readonly arguments: readonly string[];
    readonly digest?: string;
    readonly error?: { readonly code: string };
  }[];
}

let folder: string;
const at = (name: string): string => join(folder, name);

/** Runs an action in this process, as `main` would. */
async function run<Options>(
  action: (shell: Shell, args: readonly string[], options: Options) => Promise<void>,
  args: readonly string[],
  options: Options,
  signal = new AbortController().signal,
): Promise<{ readonly document: Document; readonly exit: ErrorCategory | undefined }> {
  const stdout = new PassThrough();
  let exit: ErrorCategory | undefined;
  const shell = makeShell(
    {
      stdin: process.stdin,
      stdout,
      stderr: new PassThrough().resume(),
      env: { COSIGN_PASSWORD: "correct horse" },
      signal,
      exitWith: (category) => (exit = category),
    },
    { json: true, progress: "none" },
  );
  await action(shell, args, options);
  stdout.end();
  const text = (await stdout.toArray()).join("");
  return { document: JSON.parse(text === "" ? "{}" : text) as Document, exit };
}

const recipient = (): EncryptOptions => ({ recipient: [`jwe:${at("team.pub")}`] });

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "ociseal-list-"));
  const layout = await openLayout({ path: at("images"), mode: "write", durability: "none" });
  for (const name of ["a", "b", "c", "d", "e"]) await pushImage(layout, await makeHelloImage(`${name}\n`, "amd64"), name);
  await layout.close();
  await run(keyGenerate, ["ec"], { out: at("team") });
  await run(keyGenerate, ["ec"], { out: at("partner") });
  await run(keyGenerate, ["cosign"], { out: at("cosign") });
});

afterAll(async () => {
  await rm(folder, { recursive: true, force: true });
});

const lines = (names: string, to: string): string =>
  `# images of the shop\n\n${names
    .split("")
    .map((name) => `oci:${at("images")}:${name}\toci:${at(to)}:${name}`)
    .join("\n")}\n`;

describe("--from-file", () => {
  it("splits a list among shards without a gap or an overlap", async () => {
    await writeFile(at("list"), lines("abcde", "sharded"));
    const shards = [];
    for (const index of [0, 1, 2]) shards.push(await run(encrypt, [], { ...recipient(), fromFile: at("list"), shard: `${index}/3` }));
    expect(shards.map(({ document }) => document.items.map(({ line }) => line))).toEqual([[3, 6], [4, 7], [5]]);
    expect(shards.map(({ exit }) => exit)).toEqual([undefined, undefined, undefined]);
    const index = JSON.parse(await readFile(at("sharded/index.json"), "utf8")) as { manifests: { digest: string }[] };
    expect(index.manifests.map(({ digest }) => digest).toSorted()).toEqual(
      shards.flatMap(({ document }) => document.items.map(({ digest = "" }) => digest)).toSorted(),
    );
  });

  it("does the rest when a line fails, remembers what is done, and takes up from there", async () => {
    await writeFile(at("list"), lines("axb", "resumed"));
    const settings = { ...recipient(), fromFile: at("list"), state: at("state") };
    const first = await run(encrypt, [], settings);
    expect(first.exit).toBe("not-found");
    expect(first.document.summary).toEqual({ total: 3, done: 2, doneBefore: 0, failed: 1 });
    expect(first.document.items[1]).toMatchObject({
      line: 4,
      outcome: "failed",
      error: { code: expect.stringMatching(/^ERR_/) as string },
    });

    await writeFile(at("list"), lines("acb", "resumed"));
    const second = await run(encrypt, [], settings);
    expect(second.exit).toBeUndefined();
    expect(second.document.items.map(({ outcome }) => outcome)).toEqual(["done-before", "done", "done-before"]);
    expect(second.document.items[0]?.digest).toBe(first.document.items[0]?.digest);
  });

  it("does an image again whose line in the state file was cut short", async () => {
    await writeFile(at("list"), lines("ab", "cut"));
    const settings = { ...recipient(), fromFile: at("list"), state: at("cut-state") };
    await run(encrypt, [], settings);
    const { length } = await readFile(at("cut-state"));
    await truncate(at("cut-state"), length - 10);
    const again = await run(encrypt, [], settings);
    expect(again.document.items.map(({ outcome }) => outcome)).toEqual(["done-before", "done"]);
    expect((await run(encrypt, [], settings)).document.summary).toMatchObject({ doneBefore: 2 });
  });

  it("refuses the state of another command, of other flags, or of nobody", async () => {
    await writeFile(at("list"), lines("a", "other"));
    await run(encrypt, [], { ...recipient(), fromFile: at("list"), state: at("other-state") });
    const other = { recipient: [`jwe:${at("partner.pub")}`], fromFile: at("list"), state: at("other-state") };
    await expect(run(encrypt, [], other)).rejects.toMatchObject({ code: "ERR_USAGE" });
    await run(keyGenerate, ["ec"], { out: at("replaced") });
    const same = { recipient: [`jwe:${at("replaced.pub")}`], fromFile: at("list"), state: at("replaced-state") };
    await run(encrypt, [], same);
    await writeFile(at("replaced.pub"), await readFile(at("partner.pub")));
    await expect(run(encrypt, [], same)).rejects.toThrow("with other flags");
    await appendFile(at("foreign"), "a file of the user's\n");
    await expect(run(encrypt, [], { ...recipient(), fromFile: at("list"), state: at("foreign") })).rejects.toThrow("not a state file");
    expect(await readFile(at("foreign"), "utf8")).toBe("a file of the user's\n");
  });

  it("plans without remembering", async () => {
    await writeFile(at("list"), lines("a", "planned"));
    const planned = await run(encrypt, [], { ...recipient(), fromFile: at("list"), state: at("plan-state"), dryRun: true });
    expect(planned.document.summary).toMatchObject({ done: 1 });
    await expect(readFile(at("plan-state"))).rejects.toMatchObject({ code: "ENOENT" });
  });

  it("re-wraps and verifies lists; the worst failure decides the exit code", async () => {
    await writeFile(at("list"), lines("ab", "wrapped"));
    await run(encrypt, [], { ...recipient(), fromFile: at("list") });
    const [a, b] = [`oci:${at("wrapped")}:a`, `oci:${at("wrapped")}:b`];
    await writeFile(at("wrapped-list"), `${a}\n${b} oci:${at("moved")}:b\n`);
    const keys = { key: [at("team.key")], add: [`jwe:${at("partner.pub")}`], remove: [at("team.pub")] };
    const wrapped = await run(rewrap, [], { ...keys, fromFile: at("wrapped-list") });
    expect(wrapped.document.summary).toMatchObject({ done: 2, failed: 0 });

    await run(sign, [a], { key: at("cosign.key"), format: "bundle", recursive: true });
    await writeFile(at("verify-list"), `${a}\n${b}\noci:${at("wrapped")}:absent\n`);
    const verified = await run(verify, [], { key: at("cosign.pub"), fromFile: at("verify-list") });
    expect(verified.document.items.map(({ outcome }) => outcome)).toEqual(["done", "failed", "failed"]);
    expect(verified.exit).toBe("integrity");
  });

  it("verifies a tag again, and what a digest names once", async () => {
    const index = JSON.parse(await readFile(at("images/index.json"), "utf8")) as { manifests: { digest: string }[] };
    const digest = index.manifests[0]?.digest ?? "";
    await run(sign, [`oci:${at("images")}:${digest}`], { key: at("cosign.key"), format: "bundle", recursive: true });
    await writeFile(at("again-list"), `oci:${at("images")}:a\noci:${at("images")}:${digest}\n`);
    const settings = { key: at("cosign.pub"), fromFile: at("again-list"), state: at("verify-state") };
    expect((await run(verify, [], settings)).document.items.map(({ outcome }) => outcome)).toEqual(["done", "done"]);
    expect((await run(verify, [], settings)).document.items.map(({ outcome }) => outcome)).toEqual(["done", "done-before"]);
  });

  it("stops at once when the flags are wrong for every line, and when it is interrupted", async () => {
    await writeFile(at("list"), lines("ab", "stopped"));
    await expect(run(encrypt, [], { fromFile: at("list") })).rejects.toThrow("no recipient");
    const interruption = new AbortController();
    interruption.abort(new Error("interrupted"));
    await expect(run(encrypt, [], { ...recipient(), fromFile: at("list") }, interruption.signal)).rejects.toThrow("interrupted");
  });

  it("needs either the images or a list, and not both", async () => {
    await expect(run(encrypt, ["oci:a"], recipient())).rejects.toThrow("missing DESTINATION");
    await expect(run(rewrap, [], {})).rejects.toThrow("missing IMAGE");
    await expect(run(verify, [], { key: "k" })).rejects.toThrow("missing IMAGE");
    await expect(run(verify, ["oci:a"], { shard: "0/2" })).rejects.toThrow("go with --from-file");
    await expect(run(verify, ["oci:a"], { fromFile: at("list") })).rejects.toThrow("does not go with");
  });

  it("reads shards and lines strictly", () => {
    expect(parseShard("7/8")).toEqual({ index: 7, of: 8 });
    for (const text of ["8/8", "1", "a/b", "-1/2", "0/0", "1/2/3", ""]) expect(() => parseShard(text), text).toThrow("--shard");
    const shape = { command: "rewrap", names: ["IMAGE", "DESTINATION"], required: 1 };
    expect(parseList("\r\n# none\r\n  oci:a \t oci:b\r\noci:c", "list", shape).map(({ words }) => words)).toEqual([
      ["oci:a", "oci:b"],
      ["oci:c"],
    ]);
    expect(() => parseList("one two three", "list", shape)).toThrow("line 1 of list");
  });
});
