import { createPublicKey, generateKeyPairSync, randomBytes } from "node:crypto";
import { mkdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { connectKbsAdmin, generateRootKey, openMemoryStore, serveKbs, type KbsAdmin, type KbsServer } from "../../src/kbs/index.ts";
import {
  brokerUnwrapper,
  jweWrapper,
  kbsWrapper,
  parsePrivateKey,
  parsePublicKey,
  privateKeyUnwrapper,
  type KeyUnwrapper,
  type KeyWrapper,
} from "../../src/keywrap/index.ts";
import { decryptImage, encryptImage } from "../../src/pipeline/index.ts";
import { memoryStore, openLayout, readManifest } from "../../src/store/index.ts";
import { startServer, type Outcome } from "../cli/run.ts";
import { ec, rsa } from "../keywrap/keys.ts";
import { plainImage } from "../layer/layout.ts";
import { missingPeers, missingRoot } from "../peers.ts";
import { criPeer, imgcryptPeer, startContainerd, type Containerd } from "./matrix/containerd.ts";
import { engine, skopeo } from "./matrix/copiers.ts";
import type { Bench, MatrixPeer, Task } from "./matrix/peer.ts";

/*
 * Every peer with every kind of key, both ways: what we encrypt it opens, what it encrypts we open. What cannot be is
 * listed with the reason that the peer itself gives.
 */

const keyNames = ["RSA-2048", "RSA-4096", "P-256", "P-384", "P-521"] as const;
type KeyName = (typeof keyNames)[number];

/** Who an image is for: holders of keys, or a key at the KBS that peers reach through our provider. */
type Column = { readonly title: string; readonly keys: readonly KeyName[] } | { readonly title: string; readonly keys: "provider" };
const columns: readonly Column[] = [
  ...keyNames.map((name) => ({ title: name, keys: [name] })),
  { title: "two recipients", keys: ["RSA-2048", "P-384"] },
  { title: "a provider", keys: "provider" },
];
const theProvider = "provider:attestation-agent:kbs:///default/image-key";

let containerd: Containerd | undefined;
const running = (): Containerd => {
  if (containerd === undefined) throw new Error("containerd does not run");
  return containerd;
};
const peers: readonly MatrixPeer[] = [
  ...(["skopeo-1.9", "skopeo-1.18", "skopeo-1.22"] as const).map(skopeo),
  ...(["buildah-1.28", "buildah-1.39", "podman-4.3", "podman-5.4"] as const).map(engine),
  criPeer(running),
  imgcryptPeer(running),
];

type Way = "encrypts" | "decrypts";
/** Programs that are older than the thing itself, in their own words. */
const impossible: readonly {
  readonly peer: string;
  readonly way: Way | "either";
  readonly columns: "all" | "provider";
  readonly reason: RegExp;
}[] = [
  // ocicrypt 1.0.3 knows no key providers.
  { peer: "skopeo-1.9", way: "either", columns: "provider", reason: /Provided protocol not recognized|open provider/ },
  { peer: "buildah-1.28", way: "either", columns: "provider", reason: /Provided protocol not recognized|open provider/ },
  { peer: "podman-4.3", way: "encrypts", columns: "all", reason: /unknown flag: --encryption-key/ },
  { peer: "podman-4.3", way: "decrypts", columns: "all", reason: /unknown flag: --decryption-key/ },
  { peer: "containerd-1.6 with our decoder", way: "encrypts", columns: "all", reason: /No help topic for 'encrypt'/ },
];

function reasonAgainst(peer: MatrixPeer, way: Way, { keys }: Column): RegExp | undefined {
  return impossible.find(
    (entry) =>
      entry.peer === peer.name && (entry.way === way || entry.way === "either") && (entry.columns === "all" || keys === "provider"),
  )?.reason;
}

let bench: Bench;
let kbs: KbsServer;
let admin: KbsAdmin;
let provider: Awaited<ReturnType<typeof startServer>>;
const holders = new Map<
  KeyName,
  { readonly wrapper: KeyWrapper; readonly unwrapper: KeyUnwrapper; readonly file: string; readonly publicFile: string }
>();
let count = 0;

beforeAll(async () => {
  // Short and without capitals: podman makes names of images from folders, and takes a run folder of 50 characters.
  const folder = join(tmpdir(), `ociseal-${randomBytes(4).toString("hex")}`);
  await mkdir(folder);
  kbs = await serveKbs({
    listen: { host: "127.0.0.1", port: 0 },
    store: openMemoryStore(),
    rootKeys: [generateRootKey()],
    mode: "development",
  });
  admin = connectKbsAdmin({ url: kbs.url, token: kbs.adminToken ?? "" });
  await writeFile(join(folder, "token"), `${kbs.adminToken ?? ""}\n`);
  const reach = ["--kbs", kbs.url, "--tee", "sample"];
  provider = await startServer(["keyprovider", "serve", "--listen", "127.0.0.1:0", ...reach, "--kbs-admin-token", join(folder, "token")], {
    cwd: folder,
  });
  const providerConfig = join(folder, "ocicrypt.json");
  await writeFile(providerConfig, JSON.stringify({ "key-providers": { "attestation-agent": { grpc: provider.ready["listening"] } } }));
  bench = { folder, providerConfig, kbs: reach };
  for (const name of keyNames) {
    const key = name === "RSA-2048" ? rsa : name === "RSA-4096" ? generateKeyPairSync("rsa", { modulusLength: 4096 }).privateKey : ec(name);
    const [file, publicFile] = [join(folder, `${name}.key`), join(folder, `${name}.pub`)];
    const [pem, publicPem] = [key.export({ type: "pkcs8", format: "pem" }), createPublicKey(key).export({ type: "spki", format: "pem" })];
    await writeFile(file, pem);
    await writeFile(publicFile, publicPem);
    holders.set(name, {
      file,
      publicFile,
      wrapper: jweWrapper({ publicKey: parsePublicKey(Buffer.from(publicPem)) }),
      unwrapper: privateKeyUnwrapper([parsePrivateKey(Buffer.from(pem))]),
    });
  }
});

afterAll(async () => {
  expect(await provider.stop()).toBe(0);
  await admin.close();
  await kbs.close({ graceMs: 100 });
  await rm(bench.folder, { recursive: true, force: true });
});

/** A fresh image: no peer may find its content in a cache. */
function newTask(): Task & { readonly contents: readonly Buffer[] } {
  const name = `image${(count += 1)}`;
  const contents = [randomBytes(70_000), Buffer.from(`small ${randomBytes(8).toString("hex")}`)];
  const { folder } = plainImage(join(bench.folder, name), contents);
  return { bench, source: folder, target: join(bench.folder, `${name}-done`), contents };
}

const holder = (name: KeyName) => {
  const found = holders.get(name);
  if (found === undefined) throw new Error(`no key ${name}`);
  return found;
};

/** What each single holder uses to open an image for this column, as `-k` of the peer and as ours. */
function openersOf({ keys }: Column): readonly { readonly key: string; readonly unwrapper: KeyUnwrapper }[] {
  if (keys !== "provider") return keys.map((name) => ({ key: holder(name).file, unwrapper: holder(name).unwrapper }));
  const broker = { fetchKey: (uri: string) => admin.getResource(uri) };
  return [{ key: "provider:attestation-agent", unwrapper: brokerUnwrapper({ broker, name: "KBS", reach: "remote" }) }];
}

async function seal(task: Task, { keys }: Column): Promise<string> {
  const sealed = `${task.source}-sealed`;
  const wrappers: KeyWrapper[] = [];
  if (keys === "provider") {
    const { key, uri } = await admin.registerKey(`kbs:///default/key/${randomBytes(8).toString("hex")}`);
    wrappers.push(kbsWrapper({ uri, kek: key, packets: "both" }));
  } else wrappers.push(...keys.map((name) => holder(name).wrapper));
  const [from, to] = [
    await openLayout({ path: task.source, mode: "read" }),
    await openLayout({ path: sealed, mode: "write", durability: "none" }),
  ];
  await encryptImage({
    from,
    root: await from.resolve("it"),
    to: { store: to, reference: "it" },
    cipher: "AES_256_CTR_HMAC_SHA256",
    profile: "ocicrypt",
    wrappers,
  });
  await to.close();
  await from.close();
  return sealed;
}

async function expectOpens(task: Task, made: string, unwrapper: KeyUnwrapper): Promise<void> {
  const [from, source, to] = [
    await openLayout({ path: made, mode: "read" }),
    await openLayout({ path: task.source, mode: "read" }),
    memoryStore(),
  ];
  // Compares every layer with its diffID in the configuration, and the configuration is the source's.
  const [root, plain] = [await from.resolve(undefined), await source.resolve("it")];
  const { result } = await decryptImage({ from, root, to: { store: to, reference: "x" }, unwrappers: [unwrapper] });
  const opened = await readManifest(to, { ...root, ...result });
  expect(opened.manifest.config.digest).toBe((await readManifest(source, plain)).manifest.config.digest);
  expect(opened.manifest.layers).toHaveLength(2);
  await from.close();
  await source.close();
}

function matrixOf(peer: MatrixPeer): void {
  const cells = (way: Way) => columns.map((column) => ({ title: column.title, column, reason: reasonAgainst(peer, way, column) }));
  const can = (way: Way) => cells(way).filter(({ reason }) => reason === undefined);
  const cannot = (way: Way) => cells(way).flatMap(({ reason, ...cell }) => (reason === undefined ? [] : [{ ...cell, reason }]));

  it.each(can("decrypts"))("opens what we encrypt for $title", async ({ column }) => {
    const task = newTask();
    const sealed = await seal(task, column);
    for (const [n, { key }] of openersOf(column).entries()) {
      const outcome = await peer.decrypt({ ...task, source: sealed, target: `${task.target}${n}` }, [key]);
      expect(outcome, outcome.stderr).toMatchObject({ status: 0 });
      for (const [i, content] of task.contents.entries())
        expect((await outcome.contents?.(`file${i}`))?.some((found) => found.equals(content))).toBe(true);
    }
  });

  it.each(can("encrypts"))("encrypts for $title what we open", async ({ column }) => {
    const task = newTask();
    const outcome = await peer.encrypt(task, recipientsOf(column));
    expect(outcome, outcome.stderr).toMatchObject({ status: 0 });
    for (const { unwrapper } of openersOf(column)) await expectOpens(task, task.target, unwrapper);
  });

  it.each(cannot("decrypts"))("cannot open what we encrypt for $title: $reason", async ({ column, reason }) => {
    const task = newTask();
    const source = await seal(task, column);
    for (const { key } of openersOf(column)) expectRefusal(await peer.decrypt({ ...task, source }, [key]), reason);
  });

  it.each(cannot("encrypts"))("cannot encrypt for $title: $reason", async ({ column, reason }) => {
    expectRefusal(await peer.encrypt(newTask(), recipientsOf(column)), reason);
  });
}

function recipientsOf({ keys }: Column): readonly string[] {
  return keys === "provider" ? [theProvider] : keys.map((name) => `jwe:${holder(name).publicFile}`);
}

function expectRefusal({ status, stdout, stderr }: Outcome, reason: RegExp): void {
  expect(status).not.toBe(0);
  expect(stdout + stderr).toMatch(reason);
}

const onContainerd = peers.filter((peer) => peer.programs.includes("containerd-1.6"));
const alone = peers
  .filter((peer) => !onContainerd.includes(peer))
  .map((peer) => ({ peer, name: peer.name, missing: missingPeers(...peer.programs) || (peer.user === "root" && missingRoot(peer.name)) }));

describe.each(alone.filter(({ missing }) => !missing))("$name", ({ peer }) => {
  matrixOf(peer);
});

describe.skipIf(missingPeers(...onContainerd.flatMap(({ programs }) => programs)) || missingRoot("containerd"))("on containerd", () => {
  beforeAll(async () => {
    containerd = await startContainerd(bench);
  });
  afterAll(() => containerd?.close());
  describe.each(onContainerd.map((peer) => ({ peer, name: peer.name })))("$name", ({ peer }) => {
    matrixOf(peer);
  });
});
