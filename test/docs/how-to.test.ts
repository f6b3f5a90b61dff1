import { execFile } from "node:child_process";
import { chmod, cp, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { makeHelloImage, makeIndex, seedRegistry } from "../../registry-fixtures/index.ts";
import { emptyBundle, formatBundle } from "../../src/attestation/index.ts";
import { serveRegistry, type RegistryServer } from "../../src/registry-server/index.ts";
import { dcapPki, makeQuote } from "../attestation/generator/dcap.ts";
import { cleanEnvironment, ociseal, program, projectFolder, startServer } from "../cli/run.ts";
import { handshake } from "../kbs/harness.ts";
import { pageBlocks } from "./command-lines.ts";

const kbsFlags = ["--kbs", "KBS", "--admin-token", "admin.token"];
const seal = "encrypt REGISTRY/shop:1 REGISTRY/shop:sealed --kbs KBS --kbs-admin-token admin.token --sign-key cosign.key -r";

interface Page {
  /** Commands that make what the page takes for granted; REGISTRY and KBS are filled in. */
  readonly before?: readonly string[];
  readonly files?: Readonly<Record<string, string | Buffer>>;
  /** What the words of a command begin with, and what it answers here and would not on the reader's machine. */
  readonly otherwise?: Readonly<Record<string, number>>;
  /** How many of the program's commands the page runs at least. */
  readonly atLeast: number;
}

const denied = 5;
const noTee = 8;
const noCrio = 2;
const unknownRoot = 8;
const quote = makeQuote(dcapPki());
const collateral = formatBundle(emptyBundle("2026-11-24T00:00:00Z"));
const attestationPolicy = JSON.stringify({ apiVersion: "ociseal/attestation-policy/v1", tdx: { mrTd: ["aa".repeat(48)] } });
const rego = "package policy\nimport rego.v1\n\ndefault allow := false\n";
const appraisal = 'package policy\nimport rego.v1\n\ndefault executables := 33\n\ntrust_claims := {"executables": executables}\n';

const pages: Readonly<Record<string, Page>> = {
  "seal-in-ci": {
    files: { "images.txt": "oci:plain:a oci:sealed:a\noci:plain:b oci:sealed:b\n" },
    before: ["copy REGISTRY/shop:1 oci:plain:a", "copy REGISTRY/shop:1 oci:plain:b"],
    atLeast: 3,
  },
  "run-the-kbs": {
    files: {
      "claims.json": JSON.stringify({ submods: {} }),
      "data.json": "{}",
      "release.rego": rego,
      "etc/kbs.toml":
        '[listen]\nport = PORT\n[store]\nkind = "directory"\npath = "FOLDER/store"\n[[root_keys]]\nkind = "file"\npath = "FOLDER/etc/root.key"\n',
      "etc/new-kbs.toml":
        '[store]\nkind = "directory"\npath = "FOLDER/new-store"\n[[root_keys]]\nkind = "file"\npath = "FOLDER/etc/root.key"\n',
    },
    before: [`kbs key create kbs:///default/shop-key/1 ${kbsFlags.join(" ")}`],
    otherwise: { "kbs policy evaluate": denied },
    atLeast: 9,
  },
  "rotate-and-revoke": {
    before: [`${seal} kbs:///default/shop-key/1 -r jwe:team.pub`],
    atLeast: 8,
  },
  "debug-a-refusal": {
    files: { "policy.json": attestationPolicy, "etc/containers-policy.json": JSON.stringify({ default: [{ type: "reject" }] }) },
    before: [`${seal} kbs:///default/shop-key/1`],
    otherwise: { "doctor guest": noTee, "attest evidence": noTee, "attest policy explain": unknownRoot, lint: 6 },
    atLeast: 11,
  },
  "pull-in-a-guest": {
    files: { "policy.json": JSON.stringify({ default: [{ type: "insecureAcceptAnything" }] }) },
    before: [`${seal} kbs:///default/shop-key/1 -r jwe:team.pub`],
    otherwise: { "doctor guest": noTee, "pull --policy": noTee },
    atLeast: 5,
  },
  "move-from-skopeo-and-coco-keyprovider": {
    before: ["copy REGISTRY/shop:1 REGISTRY/app:1"],
    otherwise: { "lint --profile coco": 6, "doctor crio": noCrio },
    atLeast: 8,
  },
  "move-from-trustee": {
    files: { "trustee/repository/default\\x2Fkey\\x2F1": Buffer.alloc(32, 1), "policy.rego": rego, "default_cpu.rego": appraisal },
    otherwise: { "kbs policy evaluate": denied },
    atLeast: 5,
  },
  "air-gapped": {
    before: [`${seal} kbs:///default/shop-key/1`],
    files: {
      "kbs.toml": 'mode = "development"\n[listen]\nport = SITE_KBS\n[store]\nkind = "memory"\n',
    },
    otherwise: { "attest verify": unknownRoot },
    atLeast: 10,
  },
};

let folder: string;
let registry: RegistryServer;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "ociseal-how-to-"));
  registry = await serveRegistry({ listen: { host: "127.0.0.1", port: 0 }, storage: { kind: "memory" } });
  await mkdir(join(folder, "keys"));
  const env = { COSIGN_PASSWORD: "change-me" };
  for (const [kind, name] of [
    ["cosign", "cosign"],
    ["ec", "team"],
    ["ec", "partner"],
    ["ec", "site"],
  ] as const)
    expect(await ociseal(["key", "generate", kind, "--out", name], { cwd: join(folder, "keys"), env })).toMatchObject({ status: 0 });
  // Programs of others that the pages call: what they make is given, where something is made of it.
  await mkdir(join(folder, "bin"));
  const others = {
    runc: "true",
    mount: 'case "$*" in *"lowerdir=0,"*) ;; *) exit 1;; esac',
    kubectl: 'case "$*" in *token*) cat "$ADMIN_TOKEN";; esac',
    systemctl:
      'if [ "$1" = stop ]; then for pid in $(cat servers); do kill "$pid"; while kill -0 "$pid" 2>/dev/null; do sleep 0.1; done; done; fi',
    opa: `cp "${join(projectFolder, "test/policy/wasm/release.tar.gz")}" release.tar.gz`,
  };
  for (const [name, script] of Object.entries(others)) {
    await writeFile(join(folder, "bin", name), `#!/bin/sh\n${script}\n`);
    await chmod(join(folder, "bin", name), 0o755);
  }
}, 120_000);

afterAll(async () => {
  await registry.close();
  await rm(folder, { recursive: true, force: true });
});

async function freePort(): Promise<string> {
  const server = createServer().listen(0, "127.0.0.1");
  await new Promise((resolve) => server.once("listening", resolve));
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  return String(typeof address === "object" ? address?.port : 0);
}

/** The program, as a function of the shell: writes down what was run, and takes an answer that was to be expected for a yes. */
function shellFunction(otherwise: Readonly<Record<string, number>>): string {
  const cases = Object.entries(otherwise).map(([words, status]) => `    "${words}"*) if [ "$status" -eq ${status} ]; then status=0; fi;;`);
  return `ociseal() {
  case "$*" in
    # No test asks another machine.
    "attest collateral fetch"*) return 0;;
  esac
  status=0
  "${process.execPath}" "${program}" "$@" || status=$?
  echo "$status $*" >> "$RAN"
  case "$*" in
${cases.join("\n")}
    "") ;;
  esac
  return $status
}`;
}

describe("a how-to runs, command by command, as a reader would type it", () => {
  it("for every page that there is", async () => {
    const there = (await readdir(join(projectFolder, "docs/how-to"))).map((name) => name.replace(/\.md$/, ""));
    expect(there.toSorted((a, b) => a.localeCompare(b))).toEqual(Object.keys(pages).toSorted((a, b) => a.localeCompare(b)));
  });

  it.each(Object.entries(pages))(
    "%s",
    async (name, { before = [], files = {}, otherwise = {}, atLeast }) => {
      const cwd = join(folder, name);
      await cp(join(folder, "keys"), cwd, { recursive: true });
      const kbs = await startServer(["kbs", "serve", "--dev", "--listen", "127.0.0.1:0", "--data", "dev"], { cwd });
      const host = registry.url.replace("http://", "");
      const url = kbs.ready["listening"] ?? "";
      const [siteRegistry, siteKbs, keyProvider, production] = [await freePort(), await freePort(), await freePort(), await freePort()];
      try {
        const images = [await makeHelloImage("hi\n", "amd64"), await makeHelloImage("hi\n", "arm64")];
        await seedRegistry(registry, `${name}/shop`, makeIndex({ images }), "1");
        await cp(join(cwd, "dev/admin.token"), join(cwd, "admin.token"));
        await cp(join(cwd, "dev/admin.token"), join(cwd, "ci.token"));
        await cp(join(cwd, "dev/admin.token"), join(cwd, "site.token"));
        const { token } = await handshake(url);
        const given = { "attestation.jwt": token, "quote.bin": quote, "evidence.json": quote, "collateral.json": collateral, ...files };
        const fill = (text: string): string =>
          text.replaceAll("FOLDER", cwd).replaceAll("SITE_KBS", siteKbs).replaceAll("PORT", production);
        for (const [file, content] of Object.entries(given)) {
          await mkdir(join(cwd, file, ".."), { recursive: true });
          await writeFile(join(cwd, file), typeof content === "string" ? fill(content) : content);
        }
        const env = cleanEnvironment({
          COSIGN_PASSWORD: "change-me",
          PATH: `${join(folder, "bin")}:${process.env["PATH"] ?? ""}`,
          HOME: cwd,
          RAN: join(cwd, "ran.log"),
          ADMIN_TOKEN: join(cwd, "dev/admin.token"),
        });
        for (const line of before) {
          const words = line.replaceAll("REGISTRY", `${host}/${name}`).replaceAll("KBS", url).split(" ");
          const outcome = await ociseal(words, { cwd, env });
          expect(outcome, `${line}\n${outcome.stderr}`).toMatchObject({ status: 0 });
        }
        const page = await readFile(join(projectFolder, `docs/how-to/${name}.md`), "utf8");
        for (const { text, language } of pageBlocks(page))
          if (language === "json" && text.includes('"version"')) await writeFile(join(cwd, "release.json"), text);
          else if (language === "json" && text.includes('"key-providers"'))
            await writeFile(join(cwd, "ocicrypt.conf"), text.replace("50000", keyProvider));
        const script = pageBlocks(page)
          .filter(({ language }) => language === "sh")
          .map(({ text }) => text)
          .join("\n")
          .replaceAll("registry.example.com", `${host}/${name}`)
          .replaceAll("https://kbs.example.com:8443", url)
          .replaceAll("127.0.0.1:5000", `127.0.0.1:${siteRegistry}`)
          .replaceAll("http://127.0.0.1:8080", name === "air-gapped" ? `http://127.0.0.1:${siteKbs}` : url)
          .replaceAll("/etc/containers/policy.json", join(cwd, "etc/containers-policy.json"))
          .replaceAll("/etc/ociseal", join(cwd, "etc"))
          .replaceAll("/opt/confidential-containers/storage", join(cwd, "trustee"))
          // What runs until it is stopped runs beside the rest here, and the page goes on when it is ready. A service of the page's own
          // in development mode leaves its token in the folder: that is the one for the other site.
          .replaceAll(
            /^(ociseal (?:registry|kbs|keyprovider) serve .*?)(?: &)?$/gm,
            (_line, command: string) =>
              `"${process.execPath}" "${program}" ${command.replace(/^ociseal /, "")}${command.includes("keyprovider") ? ` --listen 127.0.0.1:${keyProvider}` : ""} > ready.$$ &\nservers="$servers $!"; echo "$!" >> servers\nfor i in $(seq 300); do [ -s ready.$$ ] && break; sleep 0.1; done; [ -s ready.$$ ]; rm ready.$$; cmp -s admin.token dev/admin.token || { mv admin.token site.token; cp dev/admin.token admin.token; }; echo "0 serve" >> "$RAN"`,
          );
        const whole = ["set -eu", "servers=", "trap 'kill $servers 2>/dev/null || true' EXIT", shellFunction(otherwise), script].join("\n");
        const outcome = await new Promise<{ status: unknown; output: string }>((done) => {
          execFile("sh", ["-c", whole], { cwd, env, timeout: 110_000 }, (error, stdout, stderr) => {
            done({ status: error === null ? 0 : (error.code ?? error.signal), output: `${stdout}\n${stderr}` });
          });
        });
        const ran = (await readFile(join(cwd, "ran.log"), "utf8").catch(() => "")).trim().split("\n");
        expect(outcome, `${outcome.output}\n\nran:\n${ran.join("\n")}`).toMatchObject({ status: 0 });
        expect(ran.length, ran.join("\n")).toBeGreaterThanOrEqual(atLeast);
      } finally {
        await kbs.stop();
      }
    },
    120_000,
  );
});
