import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { commandPages } from "../../cli/command-reference.ts";
import { completionScript, completionShells, valueKind } from "../../cli/completion.ts";
import { manPages } from "../../cli/man-page.ts";
import { makeProgram } from "../../cli/program.ts";
import { projectFolder } from "./run.ts";

const pages = commandPages(makeProgram({ launch: () => async () => undefined }, { json: false, width: 100 }));
const leaves = pages.filter(({ kind }) => kind === "command");

/** What bash would offer after these words. */
function offered(...words: readonly string[]): readonly string[] {
  const script = `${completionScript("bash", pages)}
complete -p ociseal >/dev/null || exit 1
COMP_WORDS=(${words.map((word) => `'${word}'`).join(" ")}); COMP_CWORD=${words.length - 1}
_ociseal; printf '%s\\n' "\${COMPREPLY[@]}"`;
  return execFileSync("bash", ["--noprofile", "--norc", "-c", script], { encoding: "utf8" })
    .split("\n")
    .filter((line) => line !== "");
}

describe("the command line's own description", () => {
  it("has many commands, and an example of its own use in the help of each", () => {
    expect(leaves.length).toBeGreaterThan(40);
    for (const { name, epilogue } of leaves) {
      expect(epilogue, name).toContain("Examples:");
      // Aliases show the example of what they are an alias of.
      const shown = name.replace("kbs policy reference", "kbs reference");
      // Blanks for what stands between the words where the command line stands in JSON.
      const words = ` ${epilogue.slice(epilogue.indexOf("Examples:")).replaceAll(/["[\],\s]+/g, " ")} `;
      expect(words, `an example of ${name}`).toContain(` ${shown.replace("ociseal ", "")} `);
    }
  });

  it("is the same when only one command is made", () => {
    for (const command of new Set(pages.flatMap(({ name }) => name.split(" ").slice(1, 2)))) {
      const alone = commandPages(makeProgram({ launch: () => async () => undefined }, { json: false, width: 100, command }));
      const belongs = ({ name }: { readonly name: string }): boolean => name.split(" ")[1] === command;
      expect(alone.filter(belongs), command).toEqual(pages.filter(belongs));
    }
  });

  it("says in every example only flags that the command has", () => {
    for (const page of leaves) {
      const names = new Set(page.options.flatMap((option) => option.names));
      const used = page.epilogue
        .split("\n")
        .filter((line) => line.startsWith(`  ${page.name} `))
        .map((line) => (line.split("&&")[0] ?? "").replaceAll(/'[^']*'/g, ""))
        .flatMap((line) => [...line.matchAll(/(?<= )--?[a-z][a-z-]*/g)].map(([flag]) => flag));
      expect(
        used.filter((flag) => !names.has(flag)),
        page.name,
      ).toEqual([]);
    }
  });

  it("is what docs/reference and docs/man say", () => {
    const checked = spawnSync(
      process.execPath,
      ["--disable-warning=ExperimentalWarning", join(projectFolder, "scripts/docs.ts"), "--check"],
      {
        encoding: "utf8",
      },
    );
    expect(checked.stderr).toBe("");
    expect(checked.status).toBe(0);
  });
});

describe("shell completion", () => {
  it("loads in bash, and offers commands, flags and the words that a flag takes", () => {
    for (const shell of completionShells) expect(completionScript(shell, pages), shell).toContain("rewrap");
    expect(spawnSync("bash", ["-n"], { input: completionScript("bash", pages), encoding: "utf8" })).toMatchObject({
      status: 0,
      stderr: "",
    });
    expect(offered("ociseal", "enc")).toEqual(["encrypt"]);
    expect(offered("ociseal", "kbs", "")).toContain("resource");
    expect(offered("ociseal", "kbs", "key", "rot")).toEqual(["rotate"]);
    expect(offered("ociseal", "pull", "--tee", "")).toEqual(["auto", "tdx", "snp", "sample"]);
    expect(offered("ociseal", "pull", "image", "--out")).toEqual(["--output"]);
    expect(offered("ociseal", "pull", "--output", "b")).toEqual(["bundle"]);
  });

  it("offers every flag of every command", () => {
    const script = completionScript("bash", pages);
    for (const { name, options } of pages) {
      const line = script.split("\n").find((text) => text.startsWith(`    '${name}') children=`)) ?? "";
      for (const flag of options.flatMap(({ names }) => names)) expect(line.split(/[ ']/), name).toContain(flag);
    }
  });

  it.each([
    ["zsh", ["-n"]],
    ["fish", ["--no-execute"]],
  ] as const)("loads in %s where there is one", (shell, flags) => {
    const folder = mkdtempSync(join(tmpdir(), "ociseal-completion-"));
    try {
      // A file: neither shell reads a script from a socket.
      const file = join(folder, "script");
      writeFileSync(file, completionScript(shell, pages));
      const checked = spawnSync(shell, [...flags, file], { encoding: "utf8" });
      if (checked.error !== undefined) return;
      expect(checked).toMatchObject({ status: 0, stderr: "" });
      if (shell !== "fish") return;
      const asked = spawnSync(
        "fish",
        ["--no-config", "-c", `source ${file}; complete -C 'ociseal kbs key rot'; complete -C 'ociseal pull --output b'`],
        {
          encoding: "utf8",
        },
      );
      expect(asked.stdout.split("\n").map((line) => line.split("\t")[0])).toEqual(["rotate", "bundle", ""]);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  it("reads choices from descriptions, and takes other sentences for no choice", () => {
    const kind = (description: string, value = "mode") => valueKind({ value, description });
    expect(kind("auto, bar, plain, json or none")).toMatchObject({ choices: ["auto", "bar", "plain", "json", "none"] });
    expect(kind("both, legacy (.sig tag) or bundle (referrer)")).toMatchObject({ choices: ["both", "legacy", "bundle"] });
    expect(kind("keep, drop or require: what becomes of it")).toMatchObject({ choices: ["keep", "drop", "require"] });
    expect(kind("default_cpu or default_gpu", "id")).toMatchObject({ choices: ["default_cpu", "default_gpu"] });
    expect(kind("CCEL or TCG2 event log to replay", "file")).toEqual({ kind: "file" });
    expect(kind("node (default) or noble, the portable one")).toMatchObject({ choices: ["node", "noble"] });
    expect(kind("a cosign key file, or hashivault://, k8s://, pkcs11:, or a KMS URI", "key")).toEqual({ kind: "file" });
    expect(kind("configfs-tsm report folder", "dir")).toEqual({ kind: "folder" });
    expect(valueKind({ value: undefined, description: "yes or no" })).toBeUndefined();
  });
});

describe("man pages", () => {
  it("cover every command and every flag", () => {
    const all = manPages(pages, "1.2.3");
    const text = all.map((page) => page.text).join("\n");
    for (const { usage, options } of leaves) {
      expect(text).toContain(usage.replaceAll("-", "\\-"));
      for (const { flags } of options) expect(text).toContain(`.B ${flags.replaceAll("-", "\\-")}`);
    }
    for (const { file } of all) expect(readFileSync(join(projectFolder, "docs/man", file), "utf8")).toContain(".TH ");
  });

  it("are free of what groff would warn about", () => {
    for (const { file, text } of manPages(pages, "1.2.3")) {
      const checked = spawnSync("groff", ["-man", "-ww", "-z", "-Tutf8", "-K", "utf8"], { input: text, encoding: "utf8" });
      if (checked.error !== undefined) return;
      expect(checked.stderr, file).toBe("");
    }
  });
});
