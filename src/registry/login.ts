import { randomBytes } from "node:crypto";
import { chmod, mkdir, open, readFile, realpath, rename, rm } from "node:fs/promises";
import { dirname, join } from "node:path";
import { describeCause } from "../errors/index.ts";
import { normalizeKey, parseCredentials, serverKeyOf } from "./credential-entries.ts";
import { eraseFromHelper, storeInHelper } from "./credential-helpers.ts";
import type { Credential } from "./credentials.ts";
import { RegistryError } from "./errors.ts";
import { registryLimits } from "./options.ts";
import { RepositoryClient } from "./repository-client.ts";
import { canonicalHost } from "./scheme.ts";
import type { RegistryTransport } from "./transport.ts";

/** A file that docker or podman read. Both have the same format; new entries get the key that both understand. */
export interface LoginFile {
  readonly path: string;
}

/** Where a login was written, or taken from. */
export interface LoginPlace {
  readonly kind: "file" | "helper";
  /** The file's path, or the helper's program. */
  readonly place: string;
}

/** The credentials that `login` takes: a password, or an identity token in its place. */
export type LoginCredential = Exclude<Credential, { kind: "registry-token" }>;

/**
 * Checks credentials at a registry and keeps them for docker, podman and us.
 *
 * The registry is asked first (`GET /v2/` and, where it names one, its token service under the realm rule): wrong
 * credentials are never written. A helper named in the file (`credHelpers`, `credsStore`) gets the secret, else the
 * file, which is written whole, mode 0600, and replaced in one step; everything else in it stays.
 * Throws `ERR_REGISTRY_UNAUTHORIZED`, `ERR_REGISTRY_REALM_REFUSED`, `ERR_CREDENTIAL_…`, `ERR_CREDENTIALS_…`.
 */
export async function login(request: {
  readonly host: string;
  readonly credential: LoginCredential;
  readonly file: LoginFile;
  readonly transport: RegistryTransport;
  readonly signal?: AbortSignal | undefined;
}): Promise<LoginPlace> {
  const { credential, file } = request;
  await checkCredential(request);
  const key = keyOf(request.host);
  const username = credential.kind === "basic" ? credential.username : "<token>";
  const secret = credential.kind === "basic" ? credential.password : credential.token;
  return updateFile(file.path, async (root) => {
    const helper = helperFor(root, key, file.path);
    const auths = record(root["auths"]);
    const others = Object.fromEntries(Object.entries(auths).filter(([name]) => normalizeKey(name) !== key));
    if (helper !== undefined) {
      await storeInHelper(helper, serverKeyOf(key), { username, secret });
      // docker writes an empty entry, so that "which registries am I logged in to" can be answered.
      return {
        root: { ...root, auths: { ...others, [serverKeyOf(key)]: {} } },
        place: { kind: "helper", place: `docker-credential-${helper}` },
      };
    }
    const entry =
      credential.kind === "basic"
        ? { auth: Buffer.from(`${username}:${secret}`, "utf8").toString("base64") }
        : { auth: Buffer.from(`${username}:`, "utf8").toString("base64"), identitytoken: secret };
    return { root: { ...root, auths: { ...others, [serverKeyOf(key)]: entry } }, place: { kind: "file", place: file.path } };
  });
}

/** Takes a registry's credentials out of the files and their helpers. `absent` when none of them had any. */
export async function logout(request: { readonly host: string; readonly files: readonly LoginFile[] }): Promise<"removed" | "absent"> {
  const key = keyOf(request.host);
  let outcome: "removed" | "absent" = "absent";
  for (const { path } of request.files) {
    if ((await readOptional(path)) === undefined) continue;
    await updateFile(path, async (root) => {
      const auths = record(root["auths"]);
      const kept = Object.entries(auths).filter(([name]) => normalizeKey(name) !== key);
      if (kept.length < Object.keys(auths).length) outcome = "removed";
      const helper = helperFor(root, key, path);
      if (helper !== undefined && (await eraseFromHelper(helper, serverKeyOf(key))) === "removed") outcome = "removed";
      return { root: { ...root, auths: Object.fromEntries(kept) }, place: { kind: "file", place: path } };
    });
  }
  return outcome;
}

function keyOf(host: string): string {
  return normalizeKey(canonicalHost(host));
}

/** Asks the registry whether the credentials are good; a registry that wants none accepts anything, as everywhere. */
async function checkCredential(request: Parameters<typeof login>[0]): Promise<void> {
  const { transport, credential, signal } = request;
  const access = await transport.access(request.host);
  const client = new RepositoryClient({
    transport,
    access,
    credentialHost: keyOf(request.host),
    repository: undefined,
    credentials: () => Promise.resolve(credential),
  });
  const subject = `login at ${access.origin.host}`;
  const reply = await client.document(
    { method: "GET", target: new URL("/v2/", access.origin), subject, expect: [200], signal },
    registryLimits.errorBody,
  );
  if (reply.headers.mediaType() !== "text/html") return;
  throw new RegistryError("ERR_REGISTRY_PROTOCOL", {
    message: `${subject}: a web page answers where a registry should`,
    hint: "check host and port",
  });
}

function helperFor(root: Readonly<Record<string, unknown>>, key: string, path: string): string | undefined {
  const { helpers, store } = parseCredentials(JSON.stringify(root), path, "config");
  const named = helpers.get(key);
  // docker: an empty name keeps this registry in the file although there is a store.
  return named === undefined ? store : named === "" ? undefined : named;
}

/** Reads, changes and replaces a credentials file. The new file is complete before it takes the old one's place. */
async function updateFile(
  path: string,
  change: (
    root: Readonly<Record<string, unknown>>,
  ) => Promise<{ readonly root: Readonly<Record<string, unknown>>; readonly place: LoginPlace }>,
): Promise<LoginPlace> {
  const text = await readOptional(path);
  // Checks the shape; throws ERR_CREDENTIALS_MALFORMED rather than to overwrite what somebody may want to mend.
  parseCredentials(text ?? "{}", path, "config");
  const result = await change(record(JSON.parse(text === undefined || text.trim() === "" ? "{}" : text)));
  await replaceFile(path, `${JSON.stringify(result.root, undefined, "\t")}\n`);
  return result.place;
}

async function replaceFile(path: string, text: string): Promise<void> {
  try {
    await mkdir(dirname(path), { recursive: true, mode: 0o700 });
    // A symbolic link (dotfile managers) stays one; what it points to is replaced.
    const target = await realpath(path).catch(() => path);
    const temporary = join(dirname(target), `.ociseal-${randomBytes(6).toString("hex")}`);
    try {
      const handle = await open(temporary, "wx", 0o600);
      try {
        await handle.writeFile(text);
        await handle.sync();
      } finally {
        await handle.close();
      }
      await chmod(temporary, 0o600);
      await rename(temporary, target);
    } finally {
      await rm(temporary, { force: true });
    }
  } catch (cause) {
    throw new RegistryError("ERR_CREDENTIALS_UNREADABLE", {
      message: `credentials file ${path} cannot be written (${describeCause(cause)})`,
      hint: "check the folder and its permissions",
      cause,
    });
  }
}

async function readOptional(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, "utf8");
  } catch (cause) {
    if (cause instanceof Error && "code" in cause && cause.code === "ENOENT") return undefined;
    throw new RegistryError("ERR_CREDENTIALS_UNREADABLE", {
      message: `credentials file ${path} cannot be read (${describeCause(cause)})`,
      cause,
    });
  }
}

function record(value: unknown): Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Readonly<Record<string, unknown>>) : {};
}
