import { createCipheriv, generateKeyPairSync, randomBytes } from "node:crypto";
import { chmod, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { createServer, type IncomingMessage, type Server } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { makeHelloImage, pushImage } from "../../registry-fixtures/index.ts";
import { openLayout } from "../../src/store/index.ts";
import { ociseal, startServer } from "./run.ts";

let folder: string;
let echo: Server;
let host: string;
const received: string[] = [];

const kek = randomBytes(32);
const layerKey = randomBytes(32);
const payload = Buffer.from(JSON.stringify({ iss: "https://issuer.example", aud: "sigstore", sub: "secret" })).toString("base64url");
const secrets = {
  keyPassword: `key-password-${randomBytes(8).toString("hex")}`,
  cosignPassword: `cosign-password-${randomBytes(8).toString("hex")}`,
  registryPassword: `registry-password-${randomBytes(8).toString("hex")}`,
  adminToken: `admin-token-${randomBytes(12).toString("hex")}`,
  identityToken: `eyJhbGciOiJFUzI1NiJ9.${payload}.${randomBytes(32).toString("base64url")}`,
};
const { privateKey, publicKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
const pem = privateKey.export({ format: "pem", type: "pkcs8" }).toString();

/** Every text under which a secret could be seen. */
const spellings = [
  ...Object.values(secrets),
  ...Object.values(secrets).map((text) => Buffer.from(text).toString("base64")),
  Buffer.from(`robot:${secrets.registryPassword}`).toString("base64"),
  ...[kek, layerKey].flatMap((key) => [key.toString("hex"), key.toString("base64"), key.toString("base64url"), key.toString("latin1")]),
  ...pem.split("\n").filter((line) => line.length > 20 && !line.includes("-----")),
  privateKey.export({ format: "jwk" }).d ?? "",
];

function seen(text: string): readonly string[] {
  return spellings.filter((spelling) => text.includes(spelling)).map((spelling) => spelling.slice(0, 12));
}

const at = (name: string): string => join(folder, name);

/** A registry and a Key Broker Service that refuse everything, and repeat what they were shown. */
function refuse(request: IncomingMessage): string {
  const shown = [request.headers.authorization, request.headers.cookie, request.url].join(" ");
  received.push(shown);
  return JSON.stringify({
    errors: [{ code: "UNAUTHORIZED", message: `you sent ${shown}`, detail: shown }],
    type: "https://github.com/confidential-containers/kbs/errors/Unauthorized",
    detail: `you sent ${shown}`,
    code: "admin-unauthorized",
  });
}

/** Sigstore's services, all of them the one that repeats what it is sent. */
function signingConfig(url: string): object {
  const service = { url, majorApiVersion: 1, validFor: { start: "2020-01-01T00:00:00Z" }, operator: "echo" };
  return {
    mediaType: "application/vnd.dev.sigstore.signingconfig.v0.2+json",
    caUrls: [service],
    oidcUrls: [],
    rekorTlogUrls: [service],
    rekorTlogConfig: { selector: "ANY" },
    tsaUrls: [],
    tsaConfig: { selector: "ANY" },
  };
}

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "ociseal-secrets-"));
  echo = createServer((request, response) => {
    request.resume();
    request.once("end", () => {
      response.writeHead(401, { "content-type": "application/json", "www-authenticate": 'Basic realm="echo"' });
      response.end(refuse(request));
    });
  }).listen(0, "127.0.0.1");
  await new Promise((resolve) => echo.once("listening", resolve));
  const address = echo.address();
  host = `127.0.0.1:${typeof address === "object" ? address?.port : 0}`;
  const layout = await openLayout({ path: at("image"), mode: "write", durability: "none" });
  await pushImage(layout, await makeHelloImage("hi\n", "amd64"), "app");
  await layout.close();
  const cipher = createCipheriv("aes-256-gcm", kek, randomBytes(12));
  const files: Readonly<Record<string, string | Buffer>> = {
    "auth.json": JSON.stringify({ auths: { [host]: { auth: Buffer.from(`robot:${secrets.registryPassword}`).toString("base64") } } }),
    "broken-auth.json": `{"auths": {"${host}": {"auth": "${secrets.registryPassword}"`,
    "registry.password": secrets.registryPassword,
    "admin.token": secrets.adminToken,
    "identity.token": secrets.identityToken,
    "raw.kek": kek,
    "short.kek": kek.subarray(0, 31),
    "team.key": pem,
    "cut.key": pem.replace(/\n-----END[\s\S]*/, ""),
    "locked.key": privateKey.export({ format: "pem", type: "pkcs8", cipher: "aes-256-cbc", passphrase: "another" }).toString(),
    "wrong.password": secrets.keyPassword,
    "team.pub": publicKey.export({ format: "pem", type: "spki" }).toString(),
    "value.bin": Buffer.concat([kek, cipher.update("")]),
    "root.key": kek.toString("hex").slice(1),
    "signing.json": JSON.stringify(signingConfig(`http://${host}`)),
    "kbs.toml": `[store]\nkind = "memory"\npassword = "${secrets.adminToken}"\n[[root_keys]]\nkind = "file"\npath = "${at("root.key")}"\n`,
  };
  for (const [name, content] of Object.entries(files)) await writeFile(at(name), content, { mode: 0o600 });
  const sealed = await ociseal(["encrypt", "oci:image:app", "oci:sealed:app", "-r", `jwe:${at("team.pub")}`, "--quiet"], { cwd: folder });
  expect(sealed, sealed.stderr).toMatchObject({ status: 0 });
  const cosign = await ociseal(["key", "generate", "cosign", "--out", "cosign"], {
    cwd: folder,
    env: { COSIGN_PASSWORD: "the right one" },
  });
  expect(cosign.status).toBe(0);
});

afterAll(async () => {
  echo.closeAllConnections();
  await new Promise((resolve) => echo.close(resolve));
  await rm(folder, { recursive: true, force: true });
});

/** The key provider's request for a layer whose options nobody can wrap. */
function providerRequest(): string {
  const options = Buffer.from(JSON.stringify({ symkey: layerKey.toString("base64"), digest: "sha256:0", cipheroptions: {} }));
  const keywrapparams = {
    ec: { Parameters: { "attestation-agent": ["a2JzOi8vL2RlZmF1bHQva2V5L2E="] } },
    optsdata: options.toString("base64"),
  };
  return JSON.stringify({ op: "keywrap", keywrapparams });
}

const registry = (): readonly string[] => ["--creds-file", at("auth.json")];
const kbs = (): readonly string[] => ["--kbs", `http://${host}`, "--admin-token", at("admin.token")];
const cosignPassword = { COSIGN_PASSWORD: secrets.cosignPassword };

interface Case {
  readonly args: () => readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  readonly input?: () => string;
}

const cases: Readonly<Record<string, Case>> = {
  "encrypt, to a registry that repeats credentials": {
    args: () => ["encrypt", "oci:image:app", `${host}/app:1`, "-r", `jwe:${at("team.pub")}`, ...registry()],
  },
  "encrypt, for a key at a service that repeats the token": {
    args: () => [
      "encrypt",
      "oci:image:app",
      "oci:never:app",
      "-r",
      "kbs:///default/key/a",
      "--kbs",
      `http://${host}`,
      "--kbs-admin-token",
      at("admin.token"),
    ],
  },
  "encrypt, with a signing key and a wrong password": {
    args: () => ["encrypt", "oci:image:app", "oci:never:app", "-r", `jwe:${at("team.pub")}`, "--sign-key", "cosign.key"],
    env: cosignPassword,
  },
  "encrypt, for a private key": { args: () => ["encrypt", "oci:image:app", "oci:never:app", "-r", `jwe:${at("team.key")}`] },
  "decrypt, with a wrong key encryption key": {
    args: () => ["decrypt", "oci:sealed:app", "oci:never:app", "-k", `kek:kbs:///default/key/a=${at("raw.kek")}`],
  },
  "decrypt, with a key encryption key that is too short": {
    args: () => ["decrypt", "oci:sealed:app", "oci:never:app", "-k", `kek:kbs:///default/key/a=${at("short.kek")}`],
  },
  "decrypt, with a key that was cut": { args: () => ["decrypt", "oci:sealed:app", "oci:never:app", "-k", at("cut.key")] },
  "decrypt, with a wrong password from a file": {
    args: () => ["decrypt", "oci:sealed:app", "oci:never:app", "-k", `${at("locked.key")}:file=${at("wrong.password")}`],
  },
  "decrypt, with a wrong password from the environment": {
    args: () => ["decrypt", "oci:sealed:app", "oci:never:app", "-k", `${at("locked.key")}:env=KEY_PASSWORD`],
    env: { KEY_PASSWORD: secrets.keyPassword },
  },
  "cat, with a wrong key": { args: () => ["cat", "oci:sealed:app", "-k", `${at("locked.key")}:file=${at("wrong.password")}`] },
  "copy, from a registry that repeats credentials": { args: () => ["copy", `${host}/app:1`, "oci:never:app", ...registry()] },
  "inspect, with a credentials file that is no JSON": {
    args: () => ["inspect", `${host}/app:1`, "--creds-file", at("broken-auth.json")],
  },
  rewrap: {
    args: () => ["rewrap", "oci:sealed:app", "-k", `${at("locked.key")}:file=${at("wrong.password")}`, "--add", `jwe:${at("team.pub")}`],
  },
  "rewrap, by a service that repeats the token": {
    args: () => ["rewrap", "oci:sealed:app", "--server-side", "--kbs", `http://${host}`, "--kbs-admin-token", at("admin.token")],
  },
  "sign, with a wrong password": { args: () => ["sign", "oci:sealed:app", "--key", "cosign.key"], env: cosignPassword },
  "sign, with an identity token that nobody takes": {
    args: () => ["sign", "oci:sealed:app", "--identity-token", at("identity.token"), "--signing-config", at("signing.json")],
  },
  "verify, with a private key in the place of the public one": { args: () => ["verify", "oci:sealed:app", "--key", at("team.key")] },
  "pull, from a service that refuses": {
    args: () => [
      "pull",
      "oci:sealed:app",
      "never",
      "--insecure-accept-unsigned",
      "--kbs",
      `http://${host}`,
      "--tee",
      "sample",
      "-k",
      `${at("locked.key")}:file=${at("wrong.password")}`,
    ],
  },
  login: { args: () => ["login", host, "-u", "robot", "--password-file", at("registry.password")] },
  "kbs resource put": { args: () => ["kbs", "resource", "put", "kbs:///default/key/a", at("value.bin"), ...kbs()] },
  "kbs key list": { args: () => ["kbs", "key", "list", ...kbs()] },
  "kbs token": { args: () => ["kbs", "token", "--subject", "ci", "--role", "admin", ...kbs()] },
  "kbs config check": { args: () => ["kbs", "config", "check", at("kbs.toml")] },
  "kbs serve, with a root key that is none": { args: () => ["kbs", "serve", "--config", at("kbs.toml")] },
  "key import": { args: () => ["key", "import", at("cut.key"), "--out", at("imported")], env: cosignPassword },
  "key public": { args: () => ["key", "public", at("cut.key")] },
  "keyprovider exec": {
    args: () => ["keyprovider", "exec", "--kbs", `http://${host}`, "--kbs-admin-token", at("admin.token")],
    input: providerRequest,
  },
  doctor: { args: () => ["doctor", "--kbs", `http://${host}`, "--creds-file", at("broken-auth.json")], env: cosignPassword },
};

describe("a command", () => {
  it.concurrent.each(Object.entries(cases))("%s says no secret when it fails", async (_name, { args, env = {}, input }) => {
    // The document holds whatever the text would say, and details besides.
    const outcome = await ociseal([...args(), "--json"], { cwd: folder, env, ...(input === undefined ? {} : { input: input() }) });
    const text = outcome.stdout + outcome.stderr;
    expect(outcome.status, text).toBeGreaterThan(0);
    expect(text, "an internal error, or none of ours").not.toMatch(/ERR_INTERNAL|unknown option|missing required|unknown command/);
    expect(text.length).toBeGreaterThan(20);
    expect(seen(text), text).toEqual([]);
  });

  it("would be caught if it did, and the servers did see what they repeat", () => {
    expect(seen(`error: ${kek.toString("base64")}`).length).toBeGreaterThan(0);
    expect(seen(pem).length).toBeGreaterThan(0);
    expect(received.join("\n")).toContain(secrets.adminToken);
    expect(received.join("\n")).toContain(Buffer.from(`robot:${secrets.registryPassword}`).toString("base64"));
  });
});

describe("a process that holds keys", () => {
  it("a server keeps its memory out of core dumps, and opens no debugger", async (context) => {
    if (process.platform !== "linux") context.skip();
    const server = await startServer(["kbs", "serve", "--dev", "--listen", "127.0.0.1:0", "--data", "kbs"], { cwd: folder });
    const errors: string[] = [];
    server.child.stderr?.on("data", (chunk: Buffer) => errors.push(chunk.toString()));
    try {
      expect(await readFile(`/proc/${server.child.pid}/coredump_filter`, "utf8")).toMatch(/^0+\s*$/);
      server.child.kill("SIGUSR1");
      const answer = await fetch(`${server.ready["listening"]}/healthz`);
      expect(answer.status).toBe(200);
      expect(errors.join("")).not.toContain("Debugger listening");
    } finally {
      expect(await server.stop()).toBe(0);
    }
  });

  it("makes files with secrets for their owner alone", async () => {
    await chmod(folder, 0o755);
    const { mode } = await (await import("node:fs/promises")).stat(at("cosign.key"));
    expect(mode & 0o077).toBe(0);
  });
});
