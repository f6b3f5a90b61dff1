/** The page on the library: every subpath of the package with its example, which a test runs. */
import { readFileSync } from "node:fs";
import { join } from "node:path";

/** What a subpath is for; `.` is the whole. */
const purposes: Readonly<Record<string, string>> = {
  ".": "the most used of everything",
  attestation: "evidence of TDX, SGX and SEV-SNP: collecting, verifying offline, appraising, collateral",
  bytes: "streams, digests, limits, strict decoding",
  cipher: "layer ciphers, sizes, ranges",
  errors: "the base of all errors, categories, exit codes",
  guest: "pull and unpack, all or nothing",
  kbs: "the Key Broker Service, and clients for guests and administrators",
  keyprovider: "ocicrypt's key provider, and containerd's stream processor",
  keywrap: "recipients and keys of every scheme",
  layer: "the format of an encrypted layer",
  oci: "names, descriptors, manifests, platforms",
  pipeline: "encrypt, decrypt, rewrap, describe whole images",
  registry: "the distribution client",
  "registry-server": "the embedded registry",
  signing: "signatures as cosign's, policies, keyless, key services",
  store: "memory, layouts, archives, and copying between any two",
  transport: "from names to stores",
};

/** The subpaths of the package, `.` first. */
export function subpaths(root: string): readonly string[] {
  const { exports } = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as {
    readonly exports: Readonly<Record<string, unknown>>;
  };
  return Object.keys(exports).flatMap((key) => (key === "." ? ["."] : /^\.\/[a-z-]+$/.test(key) ? [key.slice(2)] : []));
}

/** The file of a subpath's example. */
export function exampleOf(subpath: string): string {
  return `examples/${subpath === "." ? "index" : subpath}.ts`;
}

export function libraryPage(root: string, made: string): string {
  const sections = subpaths(root).map((subpath) => {
    const name = subpath === "." ? "ociseal" : `ociseal/${subpath}`;
    const code = readFileSync(join(root, exampleOf(subpath)), "utf8");
    return `## ${name}\n\n${purposes[subpath] ?? ""}\n\n\`\`\`ts\n${code}\`\`\`\n`;
  });
  const helper = readFileSync(join(root, "examples/tiny-image.ts"), "utf8");
  return `# Library\n\n${made}
Everything that the command line does, typed: \`npm install ociseal\`. Each subpath has an example below (in \`examples\`; a test runs them), and its
declarations have doc comments; \`make docs\` renders those of every export. What a subpath's door exports follows semantic versioning; nothing
else of the package can be imported.

${sections.join("\n")}
## The image that the examples start from

\`\`\`ts
${helper}\`\`\`
`;
}
