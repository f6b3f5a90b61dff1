import { readdir, readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { isPkcs11Config, KeywrapError, parsePrivateKey, parsePublicKey } from "../../src/keywrap/index.ts";
import { textOf } from "./files.ts";
import { codeOf, findingsOf, reasonOf, type Add, type Examination, type Patient } from "./finding.ts";
import { examineProviders } from "./keyprovider.ts";
import { readToml, tableOf } from "./toml.ts";
import { counted } from "../table.ts";

/**
 * What CRI-O opens images with: the keys of its folder, key providers in the environment of its unit; and the signature
 * policy that it obeys. Source: crio.conf(5), CRI-O `server/utils.go`, containers-policy.json(5).
 */
export const examineCrio: Examination = async (patient) => {
  const { list, add } = findingsOf("crio");
  const configuration = await readConfiguration(add, patient);
  if (configuration === undefined) {
    if (list.length === 0) add(patient.asked ? "fail" : "not-checked", "configuration", "CRI-O is not configured here", "install CRI-O");
    return list;
  }
  const providers = await providersOf(patient);
  await examineKeys(add, patient, configuration.keys, providers === undefined ? "needed" : "optional");
  if (providers !== undefined) await examineProviders(join(patient.root, providers), patient.shell, add);
  await examinePolicy(add, join(patient.root, configuration.policy));
  return list;
};

interface Configuration {
  readonly keys: string;
  readonly policy: string;
}

/** `undefined` without CRI-O. Later drop-ins win. */
async function readConfiguration(add: Add, { root }: Patient): Promise<Configuration | undefined> {
  const dropIns = join(root, "etc/crio/crio.conf.d");
  const files = [join(root, "etc/crio/crio.conf"), ...(await filesIn(dropIns))];
  let found: Configuration | undefined;
  for (const file of files) {
    const config = await readToml(add, file);
    if (config === undefined) continue;
    const crio = tableOf(config["crio"]);
    const { keys, policy } = found ?? { keys: "/etc/crio/keys/", policy: "/etc/containers/policy.json" };
    found = {
      keys: namedBy(tableOf(crio["runtime"])["decryption_keys_path"]) ?? keys,
      policy: namedBy(tableOf(crio["image"])["signature_policy"]) ?? policy,
    };
  }
  return found;
}

/** In the order in which they are read; none when the folder is not there. */
async function filesIn(folder: string): Promise<readonly string[]> {
  try {
    return (await readdir(folder)).toSorted().map((name) => join(folder, name));
  } catch (error) {
    if (codeOf(error) === "ENOENT" || codeOf(error) === "EACCES") return [];
    throw error;
  }
}

function namedBy(value: unknown): string | undefined {
  return typeof value === "string" && value !== "" ? value : undefined;
}

const unitFiles = ["etc/sysconfig/crio", "etc/default/crio", "usr/lib/systemd/system/crio.service", "etc/systemd/system/crio.service"];

/** What `OCICRYPT_KEYPROVIDER_CONFIG` is for CRI-O; `undefined` when its unit, as far as it is read here, does not set it. */
async function providersOf({ root }: Patient): Promise<string | undefined> {
  const files = [...unitFiles.map((file) => join(root, file)), ...(await filesIn(join(root, "etc/systemd/system/crio.service.d")))];
  let found: string | undefined;
  for (const file of files) {
    const text = await textOf(file).catch(() => undefined);
    const [, path] = /^\s*(?:Environment\s*=(?:.*[\s"'])?)?["']?OCICRYPT_KEYPROVIDER_CONFIG=["']?([^\s"']+)/m.exec(text ?? "") ?? [];
    found = path ?? found;
  }
  return found;
}

const setProvider = "set OCICRYPT_KEYPROVIDER_CONFIG in the unit of CRI-O";

async function examineKeys(add: Add, { root }: Patient, folder: string, keys: "needed" | "optional"): Promise<void> {
  const absent = (message: string, fix: string): void =>
    keys === "needed"
      ? add("warn", "keys", `${message}, and no key provider is set`, `${fix}, or ${setProvider}`)
      : add("ok", "keys", `${message}; a key provider is set`);
  try {
    const path = join(root, folder);
    // CRI-O walks into sub-folders, and takes what is hidden too.
    const entries = (await readdir(path, { withFileTypes: true, recursive: true })).filter((entry) => !entry.isDirectory());
    if (entries.length === 0) return absent(`${folder} holds no key`, "put private keys there");
    add("ok", "keys", `${folder} holds ${counted(entries.length, "file")}`);
    for (const entry of entries) {
      const file = join(entry.parentPath, entry.name);
      const name = file.slice(path.length).replace(/^\//, "");
      if (entry.isSymbolicLink()) add("fail", name, `is a symbolic link; ${pullsNothing}`, "put the file itself there");
      else await examineKey(add, file, name);
    }
  } catch (error) {
    if (codeOf(error) === "ENOENT") absent(`${folder} is not there`, `mkdir -m 700 ${folder}, put private keys there`);
    else add("fail", "keys", reasonOf(error), `let root read ${folder}`);
  }
}

/** CRI-O reads the whole folder before every pull, and one file that it does not take ends also that of a plain image (measured). */
const pullsNothing = "while it is there CRI-O pulls no image at all";
const maxKeyFile = 1 << 20;

async function examineKey(add: Add, file: string, name: string): Promise<void> {
  const { mode, size } = await stat(file);
  if ((mode & 0o077) !== 0) add("warn", name, "can be read by other users", `chmod 600 ${file}`);
  const bytes = size > maxKeyFile ? undefined : await readFile(file);
  const refused = bytes === undefined ? "is too large for a key" : refusedByOcicrypt(bytes);
  if (refused !== undefined)
    add("fail", name, `${refused}; ${pullsNothing}`, "keep private keys without a password there, in PKCS#8, and nothing else");
}

/** Why ocicrypt takes a file for no key; `undefined` when it does. Source: ocicrypt `utils.SortDecryptionKeys`. */
function refusedByOcicrypt(bytes: Buffer): string | undefined {
  // Nothing at all, and what begins as a binary PGP message does, reads as a key ring.
  const [first = 0x80] = bytes;
  if ((first & 0x80) !== 0 || isPkcs11Config(bytes)) return undefined;
  const [, label] = /-----BEGIN ([A-Z0-9 ]+)-----/.exec(bytes.toString("latin1")) ?? [];
  // It reads SEC1 in DER only.
  if (label === "EC PRIVATE KEY" || label === "EC PARAMETERS") return "is an EC key in the PEM form of SEC1";
  try {
    if (label === "CERTIFICATE") parsePublicKey(bytes);
    else parsePrivateKey(bytes);
  } catch (error) {
    if (!(error instanceof KeywrapError)) throw error;
    // A key of another kind is taken, and opens nothing.
    if (error.code === "ERR_KEYWRAP_KEY_UNSUPPORTED") return undefined;
    return error.code === "ERR_KEYWRAP_PASSWORD_MISSING" ? "needs a password" : "is no private key";
  }
  return undefined;
}

async function examinePolicy(add: Add, path: string): Promise<void> {
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
