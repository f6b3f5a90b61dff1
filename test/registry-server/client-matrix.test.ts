import { describe, expect, it } from "vitest";
import { ToolError } from "../../src/errors/index.ts";
import {
  openRegistry,
  RegistryTransport,
  type CredentialSource,
  type RegistryStore,
  type TransportOptions,
} from "../../src/registry/index.ts";
import type { AuthOptions } from "../../src/registry-server/index.ts";
import { copyGraph, memoryStore, type ContentStore } from "../../src/store/index.ts";
import {
  faultNames,
  loadFaults,
  loadProfile,
  makeHelloImage,
  makeImage,
  makeIndex,
  makeReferrer,
  pushImage,
  randomBytes,
  seedRegistry,
  sendElsewhere,
  type ProfileName,
} from "../../registry-fixtures/index.ts";
import { startRegistry, type TestRegistry } from "./client.ts";

const image = await makeImage({ layers: [{ entries: [{ kind: "file", path: "a", content: randomBytes(1, 20_000) }] }] });
const secret = "open:sesame";
const credentials: CredentialSource = async () => ({ kind: "basic", username: "alice", password: secret });
const retry = { attempts: 4, baseMs: 1, maxMs: 2, budgetMs: 1000 };
/** Only for servers that never answer: on a busy machine an honest one may take longer. */
const impatient = { connectMs: 2000, headersMs: 150, commitMs: 150, documentMs: 300, stallMs: 100, minBytesPerSecond: 512 };

/** The code that a promise ends with, or `ok`. */
async function outcomeOf(work: () => Promise<unknown>): Promise<string> {
  try {
    await work();
    return "ok";
  } catch (error) {
    return error instanceof ToolError ? error.code : `not a ToolError: ${String(error)}`;
  }
}

interface Session {
  readonly registry: TestRegistry;
  readonly store: RegistryStore;
}

async function withClient<T>(options: TransportOptions, auth: AuthOptions, use: (session: Session) => Promise<T>): Promise<T> {
  await using registry = await startRegistry({ auth });
  const transport = new RegistryTransport({ retry, ...options });
  const store = openRegistry({ host: registry.server.address, repository: "app", transport, credentials });
  try {
    return await use({ registry, store });
  } finally {
    await store.close();
    await transport.close();
  }
}

const ways = {
  pull: async (store) => void (await copyGraph({ from: store, to: memoryStore(), root: await store.resolve("v1") })),
  push: async (store) => {
    const from = memoryStore();
    await pushImage(from, image, "v1");
    await copyGraph({ from, to: store, root: image.descriptor, tags: ["v1"] });
  },
  tags: async (store) => void (await store.tags()),
  referrers: async (store) => void (await store.referrers(image.descriptor)),
} as const satisfies Record<string, (store: ContentStore) => Promise<void>>;
type Way = keyof typeof ways;

/** What our client makes of each script: the operations that it touches, and how they end. */
const expectations: Readonly<Record<string, Readonly<Partial<Record<Way, string>>>>> = {
  "blob-compressed": { pull: "ERR_REGISTRY_PROTOCOL" },
  "blob-cut-every-time": { pull: "ok" },
  "blob-cut-in-order": { pull: "ok" },
  "blob-flipped": { pull: "ERR_CONTENT_DIGEST_MISMATCH" },
  "blob-reset": { pull: "ok" },
  "blob-short-and-consistent": { pull: "ERR_REGISTRY_PROTOCOL" },
  "blob-stalls": { pull: "ok" },
  "blob-with-more": { pull: "ERR_REGISTRY_PROTOCOL" },
  busy: { pull: "ok", push: "ok" },
  "content-type-wrong": { pull: "ERR_MANIFEST_MALFORMED" },
  "digest-header-absent": { pull: "ok", push: "ok" },
  "digest-header-wrong": { pull: "ERR_CONTENT_DIGEST_MISMATCH", push: "ERR_REGISTRY_PROTOCOL" },
  "html-everywhere": { pull: "ERR_REGISTRY_PROTOCOL", push: "ERR_REGISTRY_PROTOCOL", referrers: "ERR_REGISTRY_PROTOCOL" },
  "location-missing": { push: "ERR_REGISTRY_PROTOCOL" },
  "manifest-flipped": { pull: "ERR_CONTENT_DIGEST_MISMATCH" },
  "manifest-put-answer-lost": { push: "ok" },
  "never-answers": { pull: "ERR_REGISTRY_TIMEOUT", push: "ERR_REGISTRY_TIMEOUT" },
  "not-http": { pull: "ERR_REGISTRY_UNREACHABLE", push: "ERR_REGISTRY_UNREACHABLE" },
  "proxy-body-limit": { push: "ok" },
  "range-elsewhere": { pull: "ERR_REGISTRY_PROTOCOL" },
  "range-ignored": { pull: "ok" },
  "rate-limited-for-an-hour": { pull: "ERR_REGISTRY_RATE_LIMITED", push: "ERR_REGISTRY_RATE_LIMITED" },
  "redirect-loop": { pull: "ERR_REGISTRY_REDIRECT_REFUSED" },
  "referrers-html": { referrers: "ok" },
  "tags-without-end": { tags: "ERR_REGISTRY_PROTOCOL" },
  "upload-answer-lost": { push: "ok" },
  "upload-reset": { push: "ok" },
  "upload-session-forgotten": { push: "ok" },
  "upload-unauthorized-midway": { push: "ok" },
};
/** Scripts that only a client with other limits than a test's can be measured by, or whose class is the client's own choice. */
const elsewhere = ["blob-drips", "manifest-huge", "referrers-without-end"];

describe("our client against every fault script", () => {
  it("has an expectation for each of them", async () => {
    expect([...Object.keys(expectations), ...elsewhere].sort()).toEqual(await faultNames());
  });

  const cases = Object.entries(expectations).flatMap(([name, byWay]) =>
    Object.entries(byWay).map(([way, outcome]) => ({ name, way: way as Way, outcome })),
  );
  it.each(cases)("$name: $way ends with $outcome", async ({ name, way, outcome }) => {
    const timeouts = name === "never-answers" || name === "blob-stalls" ? { timeouts: impatient } : {};
    const auth: AuthOptions = name === "upload-unauthorized-midway" ? { kind: "token", users: { alice: secret } } : { kind: "none" };
    const got = await withClient(timeouts, auth, async ({ registry, store }) => {
      if (way !== "push") await seedRegistry(registry.server, "app", image, "v1");
      for (const rule of await loadFaults(name)) registry.server.addFault(rule);
      const result = await outcomeOf(() => ways[way](store));
      registry.server.clearFaults();
      // "ok" must mean that it is really there.
      if (way === "push" && result === "ok") await ways.pull(store);
      return result;
    });
    expect(got).toBe(outcome);
  });
});

describe("our client's credentials", () => {
  const auth: AuthOptions = { kind: "basic", users: { alice: secret } };
  const cases = Object.keys(sendElsewhere) as (keyof typeof sendElsewhere)[];
  it.each(cases)("go nowhere else when a registry sends it elsewhere: %s", async (kind) => {
    const caught: string[] = [];
    const observe = ({ method, url, headers }: { method: string; url: string; headers: object }) =>
      caught.push(`${method} ${url} ${JSON.stringify(headers)}`);
    await using other = await startRegistry({ observe });
    await seedRegistry(other.server, "app", image, "v1");
    caught.length = 0;
    await withClient({}, auth, async ({ registry, store }) => {
      await ways.push(store);
      for (const rule of sendElsewhere[kind](other.server.url)) registry.server.addFault(rule);
      const fresh = await makeHelloImage("another\n");
      const pushFresh = async () => pushImage(store, fresh, "v2");
      for (const way of [ways.pull, ways.tags, ways.referrers, pushFresh]) await outcomeOf(() => way(store));
    });
    const text = caught.join("\n");
    expect(text).not.toMatch(/authorization|cookie/i);
    expect(text).not.toContain(Buffer.from(`alice:${secret}`).toString("base64"));
    expect(text).not.toContain(secret);
  });
});

describe("our client and registry products", () => {
  const products = [
    "docker-registry-2.8",
    "ghcr",
    "ecr",
    "docker-hub",
    "quay",
    "harbor",
    "acr",
    "ecr-immutable",
    "lenient",
    "sparse",
  ] as const satisfies readonly ProfileName[];
  it.each(products)("copies an index with its referrers to %s and back, unchanged", async (name) => {
    await using registry = await startRegistry({ profile: await loadProfile(name), repositories: ["app"] });
    const transport = new RegistryTransport({ retry });
    const store = openRegistry({ host: registry.server.address, repository: "app", transport });
    const index = makeIndex({ images: [image, await makeHelloImage("hi\n", "arm64")] });
    const signature = makeReferrer(index.descriptor, "application/vnd.example.signature", "signed", { "org.example": "yes" });
    const [from, back] = [memoryStore(), memoryStore()];
    await pushImage(from, index, "v1");
    await pushImage(from, signature);
    await copyGraph({ from, to: store, root: index.descriptor, tags: ["v1"], referrers: "follow" });
    await copyGraph({ from: store, to: back, root: await store.resolve("v1"), tags: ["v1"], referrers: "follow" });
    expect((await back.resolve("v1")).digest).toBe(index.descriptor.digest);
    expect(await back.referrers(index.descriptor)).toMatchObject([
      { digest: signature.descriptor.digest, artifactType: "application/vnd.example.signature", annotations: { "org.example": "yes" } },
    ]);
    await store.close();
    await transport.close();
  });

  it("copies to gitlab, says that referrers find no place there, and harms nothing by trying", async () => {
    await using registry = await startRegistry({ profile: await loadProfile("gitlab") });
    const transport = new RegistryTransport({ retry });
    const store = openRegistry({ host: registry.server.address, repository: "app", transport });
    const signature = makeReferrer(image.descriptor, "application/vnd.example.signature", "signed");
    const from = memoryStore();
    await pushImage(from, image, "v1");
    await pushImage(from, signature);
    const copy = (referrers: "follow" | "ignore") => copyGraph({ from, to: store, root: image.descriptor, tags: ["v1"], referrers });
    await copy("ignore");
    await expect(copy("follow")).rejects.toMatchObject({ code: "ERR_REGISTRY_UNSUPPORTED", side: "destination" });
    expect((await store.resolve("v1")).digest).toBe(image.descriptor.digest);
    await copyGraph({ from: store, to: memoryStore(), root: image.descriptor });
    await store.close();
    await transport.close();
  });
});
