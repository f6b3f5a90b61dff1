import { readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { parse } from "smol-toml";
import { programPath, textOf } from "./files.ts";
import { codeOf, findingsOf, reasonOf, type Examination, type Patient } from "./finding.ts";

type Table = Readonly<Record<string, unknown>>;
type Add = ReturnType<typeof findingsOf>["add"];

const printFix = "print what has to stand there with: ociseal doctor containerd";

/** containerd's configuration: a stream processor for encrypted layers whose program is there. Source: containerd docs, cri/decryption.md. */
export const examineContainerd: Examination = async ({ root, shell, asked }) => {
  const { list, add } = findingsOf("containerd");
  const path = join(root, "etc/containerd/config.toml");
  const config = await readToml(add, path);
  if (config === undefined) {
    if (list.length === 0) add(asked ? "fail" : "not-checked", "configuration", `${path} is not there`, printFix);
    return list;
  }
  const processors = Object.entries(tableOf(config["stream_processors"]))
    .map(([name, value]) => ({ name, value: tableOf(value) }))
    .filter(({ value }) => textsOf(value["accepts"]).some((type) => type.endsWith("+encrypted")));
  if (processors.length === 0) {
    const drops = textsOf(config["imports"]);
    const elsewhere = drops.length === 0 ? "" : `; ${drops.join(", ")} may hold one and is not read here`;
    add(drops.length === 0 ? "fail" : "warn", "stream processor", `none takes encrypted layers${elsewhere}`, printFix);
  }
  for (const { name, value } of processors) {
    const program = typeof value["path"] === "string" ? value["path"] : "";
    if ((await programPath(program, shell.env, root)) === undefined)
      add("fail", name, `${program === "" ? "no program" : program} cannot be run`, "correct path, or install the program");
    else add("ok", name, `${program} takes encrypted layers`);
  }
  return list;
};

/** CRI-O's key folder, and the signature policy that it and podman obey. Source: crio.conf(5), containers-policy.json(5). */
export const examineCrio: Examination = async (patient) => {
  const { list, add } = findingsOf("crio");
  const folder = await crioKeys(add, patient);
  if (folder === undefined) {
    if (list.length === 0) add(patient.asked ? "fail" : "not-checked", "configuration", "CRI-O is not configured here", "install CRI-O");
    return list;
  }
  const path = join(patient.root, folder);
  try {
    const names = (await readdir(path, { withFileTypes: true })).filter((entry) => !entry.name.startsWith("."));
    const links = names.filter((entry) => entry.isSymbolicLink()).map(({ name }) => name);
    if (links.length > 0)
      add("fail", "keys", `${folder} has symbolic links, which CRI-O passes over: ${links.join(", ")}`, "put the files themselves there");
    const files = names.filter((entry) => entry.isFile());
    if (files.length === 0)
      add("warn", "keys", `${folder} holds no key`, "put private keys there, or set OCICRYPT_KEYPROVIDER_CONFIG in the unit of CRI-O");
    else add("ok", "keys", `${folder} holds ${files.length} file(s)`);
    for (const { name } of files)
      if (((await stat(join(path, name))).mode & 0o077) !== 0)
        add("warn", name, "can be read by other users", `chmod 600 ${join(folder, name)}`);
  } catch (error) {
    add("fail", "keys", codeOf(error) === "ENOENT" ? `${folder} is not there` : reasonOf(error), `mkdir -m 700 ${folder}`);
  }
  await signaturePolicy(add, patient.root);
  return list;
};

/** The folder that CRI-O reads keys from; `undefined` without CRI-O. Later drop-ins win. */
async function crioKeys(add: Add, { root }: Patient): Promise<string | undefined> {
  const dropIns = join(root, "etc/crio/crio.conf.d");
  const names = await readdir(dropIns).catch(() => []);
  const files = [
    join(root, "etc/crio/crio.conf"),
    ...names
      .filter((name) => !name.startsWith("."))
      .toSorted()
      .map((name) => join(dropIns, name)),
  ];
  let folder: string | undefined;
  for (const file of files) {
    const config = await readToml(add, file);
    if (config === undefined) continue;
    folder ??= "/etc/crio/keys/";
    const named = tableOf(tableOf(config["crio"])["runtime"])["decryption_keys_path"];
    if (typeof named === "string" && named !== "") folder = named;
  }
  return folder;
}

async function signaturePolicy(add: Add, root: string): Promise<void> {
  const path = join(root, "etc/containers/policy.json");
  const text = await textOf(path);
  if (text === undefined)
    return add("fail", "policy", `${path} is not there; CRI-O pulls nothing`, "write one, then: ociseal policy check FILE");
  try {
    const rules = tableOf(JSON.parse(text))["default"];
    const open = Array.isArray(rules) && rules.some((rule) => tableOf(rule)["type"] === "insecureAcceptAnything");
    if (open)
      add(
        "warn",
        "policy",
        `${path} accepts unsigned images by default`,
        'set "default" to [{"type":"reject"}] and name the keys you trust',
      );
    else add("ok", "policy", `${path} does not accept anything by default`);
  } catch {
    add("fail", "policy", `${path} is not JSON`, "ociseal policy check FILE says where");
  }
}

async function readToml(add: Add, path: string): Promise<Table | undefined> {
  try {
    const text = await textOf(path);
    return text === undefined ? undefined : tableOf(parse(text));
  } catch (error) {
    add("fail", "configuration", `${path}: ${(reasonOf(error).split("\n")[0] ?? "").slice(0, 200)}`, "correct the file");
    return undefined;
  }
}

function tableOf(value: unknown): Table {
  return typeof value === "object" && value !== null && !Array.isArray(value) ? { ...value } : {};
}

function textsOf(value: unknown): readonly string[] {
  return Array.isArray(value) ? value.filter((item) => typeof item === "string") : [];
}
