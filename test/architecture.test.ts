import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, relative, resolve, sep } from "node:path";
import { describe, expect, it } from "vitest";

const root = resolve(import.meta.dirname, "..");

/** Which rooms a room may import; the house's one-way rule. The same table stands in CONTRIBUTING.md. */
const rooms: Readonly<Record<string, readonly string[]>> = {
  errors: [],
  bytes: ["errors"],
  oci: ["errors", "bytes"],
  store: ["errors", "bytes", "oci"],
  registry: ["errors", "bytes", "oci", "store"],
  "registry-server": ["errors", "bytes", "oci", "store"],
  transport: ["errors", "bytes", "oci", "store", "registry"],
  cipher: ["errors", "bytes"],
  keywrap: ["errors", "bytes"],
  layer: ["errors", "bytes", "oci", "cipher", "keywrap"],
  attestation: ["errors", "bytes"],
  policy: ["errors", "bytes"],
  kbs: ["errors", "bytes", "attestation", "policy"],
  signing: ["errors", "bytes", "oci", "store"],
  keyprovider: ["errors", "bytes", "keywrap", "layer", "oci", "cipher"],
  pipeline: ["errors", "bytes", "oci", "store", "cipher", "keywrap", "layer", "signing"],
  guest: ["errors", "bytes", "oci", "store", "cipher", "keywrap", "layer", "signing"],
};

/** External packages and the only rooms that may import them. */
const packages: Readonly<Record<string, readonly string[]>> = {
  pg: ["kbs"],
  undici: ["registry", "kbs", "attestation", "signing"],
  openpgp: ["keywrap"],
  jose: ["keywrap", "kbs"],
  "tar-stream": ["guest", "store", "policy"],
  "@open-policy-agent/opa-wasm": ["policy"],
  commander: ["cli"],
  "cli-progress": ["cli"],
  "@sigstore/verify": ["signing"],
  "@sigstore/core": ["signing"],
  "@sigstore/bundle": ["signing"],
  "@sigstore/sign": ["signing"],
  "@sigstore/protobuf-specs": ["signing"],
  "@noble/ciphers": ["cipher", "signing"],
  "@noble/curves": ["signing"],
  "@sigstore/tuf": ["signing"],
  yaml: ["keywrap", "signing"],
  bcryptjs: ["registry-server"],
  "smol-toml": ["kbs", "registry", "transport", "attestation", "cli"],
};

function sourceFiles(folder: string): readonly string[] {
  return readdirSync(join(root, folder), { recursive: true, encoding: "utf8" })
    .filter((path) => path.endsWith(".ts"))
    .map((path) => join(root, folder, path));
}

interface Import {
  readonly file: string;
  readonly room: string;
  readonly target: string;
}

function roomOf(path: string): string {
  const [top = "", room = ""] = relative(root, path).split(sep);
  return top === "src" ? (room.endsWith(".ts") ? "src" : room) : top;
}

const importGrammar = /(?:^|\n)\s*(?:import|export)\b[^"';]*?from\s*"([^"]+)"|\bimport\(\s*"([^"]+)"\s*\)|(?:^|\n)\s*import\s*"([^"]+)"/g;

const files = [...sourceFiles("src"), ...sourceFiles("cli")];
const imports: readonly Import[] = files.flatMap((file) =>
  [...readFileSync(file, "utf8").matchAll(importGrammar)].map((match) => ({
    file,
    room: roomOf(file),
    target: match[1] ?? match[2] ?? match[3] ?? "",
  })),
);
const local = imports.filter(({ target }) => target.startsWith("."));

describe("the house", () => {
  it("looks at a plausible number of files and imports", () => {
    expect(files.length).toBeGreaterThan(15);
    expect(local.length).toBeGreaterThan(40);
  });

  it("knows every room", () => {
    const unknown = [...new Set(files.map(roomOf))].filter((room) => room !== "cli" && room !== "src" && !(room in rooms));
    expect(unknown).toEqual([]);
  });

  it("lets a room import only the rooms below it", () => {
    const wrong = local.filter(({ file, room, target }) => {
      const other = roomOf(resolve(dirname(file), target));
      if (other === room || room === "cli" || room === "src") return false;
      return !(rooms[room] ?? []).includes(other);
    });
    expect(wrong).toEqual([]);
  });

  it("goes through a room's door", () => {
    const wrong = local.filter(({ file, room, target }) => {
      const path = resolve(dirname(file), target);
      return (
        roomOf(path) !== room &&
        relative(root, path).startsWith(`src${sep}`) &&
        !/^src[/\\][^/\\]+[/\\]index\.ts$/.test(relative(root, path))
      );
    });
    expect(wrong).toEqual([]);
  });

  it("keeps external packages in their rooms", () => {
    const wrong = imports.filter(({ room, target }) => {
      if (target.startsWith(".") || target.startsWith("node:")) return false;
      const name = target
        .split("/")
        .slice(0, target.startsWith("@") ? 2 : 1)
        .join("/");
      return !(packages[name] ?? []).includes(room);
    });
    expect(wrong).toEqual([]);
  });

  it("writes to no console and reads no environment below the command line", () => {
    const wrong = files.filter(
      (file) => roomOf(file) !== "cli" && /\bconsole\.[a-z]|\bprocess\.env\b|\bprocess\.exit\b/.test(readFileSync(file, "utf8")),
    );
    expect(wrong).toEqual([]);
  });

  it("keeps every file under 400 lines", () => {
    expect(files.filter((file) => readFileSync(file, "utf8").split("\n").length > 401)).toEqual([]);
  });
});
