import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { credentialsFor, openRegistry, RegistryTransport, type Credential, type TransportOptions } from "../../src/registry/index.ts";
import { errorOf } from "./captures.ts";
import { answer, startFaultServer, type FaultContext, type FaultServer } from "./fault-server.ts";
import { emptyConfig, manifestOf, randomBlob, readAll, streamOf } from "./images.ts";

const fast: TransportOptions = { retry: { attempts: 3, baseMs: 1, maxMs: 2, budgetMs: 2000 } };
const alice: Credential = { kind: "basic", username: "alice", password: "p:a:s:s" };
const aliceBasic = `Basic ${Buffer.from("alice:p:a:s:s").toString("base64")}`;

describe("authentication", () => {
  let registry: FaultServer;
  let transport: RegistryTransport;
  /** The tokens given out, and whether the registry still takes them. */
  let tokens: Map<string, { scope: string[]; good: boolean }>;

  let issued: number;

  beforeEach(async () => {
    issued = 0;
    registry = await startFaultServer();
    transport = new RegistryTransport(fast);
    tokens = new Map();
  });
  afterEach(async () => {
    await transport.close();
    await registry.close();
  });

  const open = (repository = "team/app", credential: Credential | undefined = alice) =>
    openRegistry({ host: registry.host, repository, transport, credentials: () => Promise.resolve(credential) });
  const image = manifestOf(emptyConfig, []);

  /** A registry with a token service: tokens are good for the scopes that they were asked with. */
  function demandTokens(lifetime = 300): void {
    registry.on("*", /^\/v2\//, async (context) => {
      const { request, url } = context;
      const repository = /^\/v2\/(.+)\/(?:blobs|manifests|tags|referrers)\//.exec(url.pathname)?.[1] ?? "";
      const action = request.method === "GET" || request.method === "HEAD" ? "pull" : request.method === "DELETE" ? "delete" : "push";
      const token = tokens.get(request.headers.authorization?.replace("Bearer ", "") ?? "");
      if (token?.good === true && token.scope.some((scope) => scope.startsWith(`repository:${repository}:`) && scope.includes(action)))
        return context.pass();
      const challenge = `Bearer realm="${registry.origin}/token",service="test, registry",scope="repository:${repository}:${action === "push" ? "pull,push" : action}"`;
      await answer(401, { "www-authenticate": challenge })(context);
    });
    registry.on("GET", /^\/token/, ({ url, ...context }) => {
      const token = `token-${(issued += 1)}`;
      tokens.set(token, { scope: url.searchParams.getAll("scope"), good: true });
      return answer(200, {}, JSON.stringify({ access_token: token, expires_in: lifetime }))({ url, ...context });
    });
  }
  const tokenRequests = () => registry.requests.filter(({ url }) => url.startsWith("/token"));

  it("by Basic: nothing is shown before it is asked for, then it is shown at once", async () => {
    registry.seed(image, "1");
    registry.on("*", /^\/v2\//, async (context) => {
      if (context.request.headers.authorization === aliceBasic) return context.pass();
      await answer(401, { "www-authenticate": 'Basic realm="a, b", charset="UTF-8"' })(context);
    });
    const store = open();
    await store.resolve("1");
    await store.exists(image.descriptor);
    expect(registry.requests.map(({ headers }) => headers["authorization"])).toEqual([undefined, aliceBasic, aliceBasic]);
  });

  it("by Basic: wrong credentials are tried once", async () => {
    registry.on("*", /^\/v2\//, answer(401, { "www-authenticate": "Basic realm=x" }));
    const error = await errorOf(open().resolve("1"));
    expect(error).toMatchObject({ code: "ERR_REGISTRY_UNAUTHORIZED", category: "denied" });
    expect(error.hint).toContain("log in again");
    expect(registry.requests).toHaveLength(2);
  });

  it("without credentials says where they would come from", async () => {
    registry.on("*", /^\/v2\//, answer(401, { "www-authenticate": "Basic realm=x" }));
    const error = await errorOf(openRegistry({ host: registry.host, repository: "a", transport }).resolve("1"));
    expect(error.hint).toContain("log in first");
    expect(registry.requests).toHaveLength(1);
  });

  it("without credentials names the files in which none were found, also after an anonymous token", async () => {
    const credentialPlaces = ["/home/u/.docker/config.json", "/run/containers/1000/auth.json"];
    const telling = new RegistryTransport({ ...fast, credentialPlaces });
    registry.on("GET", /^\/token/, answer(200, {}, '{"token":"anonymous"}'));
    registry.on("*", /^\/v2\//, answer(401, { "www-authenticate": `Bearer realm="${registry.origin}/token",service="test"` }));
    const store = openRegistry({ host: registry.host, repository: "a", transport: telling });
    expect((await errorOf(store.resolve("1"))).hint).toBe(
      `no credentials were found for this registry in ${credentialPlaces.join(", ")}; log in first`,
    );
    await telling.close();
  });

  it("by token: over the registry's own connections when it is the token service itself, and no more of them", async () => {
    demandTokens();
    const limited = new RegistryTransport({ ...fast, concurrency: 3 });
    const repositories = ["a", "b", "c", "d"];
    const blobs = repositories.flatMap((repository) => Array.from({ length: 8 }, () => ({ repository, ...randomBlob(5000) })));
    const at = (repository: string) =>
      openRegistry({ host: registry.host, repository, transport: limited, credentials: () => Promise.resolve(alice) });
    await Promise.all(blobs.map(({ repository, descriptor, source }) => at(repository).push(descriptor, source)));
    await Promise.all(blobs.map(async ({ repository, descriptor }) => readAll(await at(repository).fetch(descriptor))));
    expect(tokenRequests().length).toBeGreaterThanOrEqual(repositories.length);
    expect(registry.connections.most).toBeLessThanOrEqual(3);
    await limited.close();
  });

  it("by token: an empty token beside an access_token is none", async () => {
    registry.seed(image, "1");
    registry.on("GET", /^\/token/, answer(200, {}, '{"token":"","access_token":"t"}'));
    registry.on("*", /^\/v2\//, (context) =>
      context.request.headers.authorization === "Bearer t"
        ? context.pass()
        : answer(401, { "www-authenticate": `Bearer realm="${registry.origin}/token"` })(context),
    );
    expect((await open().resolve("1")).digest).toBe(image.descriptor.digest);
  });

  it("by token: one for a whole push, asked for with all its scopes, the challenged one first", async () => {
    demandTokens();
    const store = open();
    const blob = randomBlob(300_000);
    const manifest = manifestOf(emptyConfig, [blob]);
    for (const { descriptor, source } of [emptyConfig, blob, manifest]) await store.push(descriptor, source);
    await store.tag(manifest.descriptor, "1");
    expect(tokenRequests()).toHaveLength(1);
    const url = new URL(tokenRequests()[0]?.url ?? "", registry.origin);
    expect(url.searchParams.get("service")).toBe("test, registry");
    expect(url.searchParams.get("account")).toBe("alice");
    expect(url.searchParams.getAll("scope")).toEqual(["repository:team/app:pull,push"]);
    expect(tokenRequests()[0]?.headers["authorization"]).toBe(aliceBasic);
    expect(
      registry.requests.filter(({ url }) => url.startsWith("/v2/")).every(({ headers }) => headers["authorization"] !== aliceBasic),
    ).toBe(true);
  });

  it("by token: one request for a token, however many need it at once", async () => {
    demandTokens();
    registry.seed(image, "1");
    registry.seed(emptyConfig);
    const store = open();
    await store.resolve("1");
    tokens.clear();
    await Promise.all(Array.from({ length: 6 }, () => store.exists(emptyConfig.descriptor)));
    expect(tokenRequests()).toHaveLength(2);
  });

  it("by token: a token of one repository is never sent for another", async () => {
    demandTokens();
    registry.seed(image, "1");
    await open("team/one").resolve("1");
    await open("team/two").resolve("1");
    const sent = registry.requests.filter(({ url }) => url.startsWith("/v2/team/two/")).map(({ headers }) => headers["authorization"]);
    expect(sent).toEqual([undefined, "Bearer token-2"]);
  });

  it("by token: one that has run out is not used, one that was revoked is replaced once", async () => {
    demandTokens();
    registry.seed(image, "1");
    const store = open();
    await store.resolve("1");
    for (const token of tokens.values()) token.good = false;
    expect(await store.exists(image.descriptor)).toBe(true);
    expect(tokenRequests()).toHaveLength(2);
  });

  it("by token: a mount asks for the right to read the other repository", async () => {
    demandTokens();
    const blob = randomBlob(10);
    registry.on("POST", /mount=/, async (context) => {
      const token = tokens.get(context.request.headers.authorization?.replace("Bearer ", "") ?? "");
      if (token?.scope.includes("repository:team/base:pull") === true) return answer(201)(context);
      const scope = "repository:team/app:pull,push repository:team/base:pull";
      await answer(401, { "www-authenticate": `Bearer realm="${registry.origin}/token",scope="${scope}"` })(context);
    });
    expect(await open().pushFrom(blob.descriptor, blob.source, "team/base")).toBe("mounted");
    expect(new URL(tokenRequests().at(-1)?.url ?? "", registry.origin).searchParams.getAll("scope")).toEqual([
      "repository:team/app:pull,push",
      "repository:team/base:pull",
    ]);
  });

  it("by token: the right to delete is asked for only when deleting", async () => {
    demandTokens();
    registry.seed(image, "1");
    const store = open();
    await store.resolve("1");
    registry.on("DELETE", /manifests/, async (context) => {
      const token = tokens.get(context.request.headers.authorization?.replace("Bearer ", "") ?? "");
      if (token?.scope.some((scope) => scope.includes("delete")) === true) return answer(202)(context);
      await answer(401, { "www-authenticate": `Bearer realm="${registry.origin}/token",scope="repository:team/app:delete"` })(context);
    });
    expect(await store.remove(image.descriptor)).toBe("removed");
    expect(tokenRequests()[0]?.url).not.toContain("delete");
    expect(tokenRequests()[1]?.url).toContain("delete");
  });

  it("in the middle of an upload: a new token and a new session, from the source", async () => {
    demandTokens();
    const blob = randomBlob(400_000);
    registry.on(
      "PUT",
      /uploads/,
      async (context) => {
        for (const token of tokens.values()) token.good = false;
        await answer(401, {
          "www-authenticate": `Bearer realm="${registry.origin}/token",service="test, registry",scope="repository:team/app:pull,push"`,
        })(context);
      },
      1,
    );
    expect(await open().push(blob.descriptor, blob.source)).toBe("pushed");
    expect(registry.blobs.get(blob.descriptor.digest)?.equals(blob.bytes)).toBe(true);
    expect(registry.count("POST", /uploads/)).toBeGreaterThanOrEqual(2);
  });

  it("in the middle of an upload that cannot be repeated: said so", async () => {
    demandTokens();
    const blob = randomBlob(400_000);
    registry.on("PATCH", /uploads/, async (context) => {
      for (const token of tokens.values()) token.good = false;
      await answer(401, { "www-authenticate": `Bearer realm="${registry.origin}/token",scope="repository:team/app:pull,push"` })(context);
    });
    const error = await errorOf(open().ingest(streamOf(blob.bytes), { size: blob.bytes.length }));
    expect(error).toMatchObject({ code: "ERR_REGISTRY_UPLOAD_BROKEN" });
  });

  it("by identity token: exchanged by POST, never shown to the registry, replaced when the service says so", async () => {
    registry.seed(image, "1");
    demandTokens();
    const forms: URLSearchParams[] = [];
    registry.on("POST", /^\/token/, async (context) => {
      await context.pass().catch(() => undefined);
    });
    registry.on("POST", /^\/token/, async ({ request, response }: FaultContext) => {
      let body = "";
      for await (const chunk of request) body += String(chunk);
      forms.push(new URLSearchParams(body));
      const token = `token-${tokens.size + 1}`;
      tokens.set(token, { scope: (forms.at(-1)?.get("scope") ?? "").split(" "), good: true });
      response.end(JSON.stringify({ access_token: token, refresh_token: "second" }));
    });
    const store = open("team/app", { kind: "identity-token", token: "first" });
    await store.resolve("1");
    for (const token of tokens.values()) token.good = false;
    await store.exists(image.descriptor);
    expect(forms.map((form) => form.get("refresh_token"))).toEqual(["first", "second"]);
    expect(forms[0]?.get("grant_type")).toBe("refresh_token");
    expect(forms[0]?.get("client_id")).toBe("ociseal");
    expect(forms[0]?.get("scope")).toBe("repository:team/app:pull");
    expect(JSON.stringify(registry.requests.filter(({ url }) => url.startsWith("/v2/")))).not.toContain("first");
  });

  it("by password where the token service takes only POST", async () => {
    registry.seed(image, "1");
    demandTokens();
    registry.on("GET", /^\/token/, answer(405));
    registry.on("POST", /^\/token/, async ({ request, response }) => {
      let body = "";
      for await (const chunk of request) body += String(chunk);
      const form = new URLSearchParams(body);
      expect(form.get("grant_type")).toBe("password");
      expect(form.get("password")).toBe("p:a:s:s");
      tokens.set("posted", { scope: ["repository:team/app:pull"], good: true });
      response.end(JSON.stringify({ access_token: "posted" }));
    });
    await open().resolve("1");
  });

  it("by a ready token: sent as it is, and nothing else", async () => {
    registry.seed(image, "1");
    registry.on("*", /^\/v2\//, async (context) => {
      if (context.request.headers.authorization === "Bearer ready") return context.pass();
      await answer(401, { "www-authenticate": `Bearer realm="${registry.origin}/token"` })(context);
    });
    await open("team/app", { kind: "registry-token", token: "ready" }).resolve("1");
    expect(await errorOf(open("team/app", { kind: "registry-token", token: "stale" }).resolve("1"))).toMatchObject({
      code: "ERR_REGISTRY_UNAUTHORIZED",
    });
    expect(tokenRequests()).toEqual([]);
  });

  it("with wrong credentials at the token service is one error, with a token service in trouble another", async () => {
    demandTokens();
    registry.on("GET", /^\/token/, answer(401));
    expect(await errorOf(open().resolve("1"))).toMatchObject({ code: "ERR_REGISTRY_UNAUTHORIZED" });
    registry.on("GET", /^\/token/, answer(503), 3);
    expect(await errorOf(open().resolve("1"))).toMatchObject({ code: "ERR_REGISTRY_UNAVAILABLE" });
    registry.on("GET", /^\/token/, answer(503), 1);
    registry.on("GET", /^\/token/, answer(200, {}, '{"token":"t"}'));
    expect(await errorOf(open().resolve("1"))).toMatchObject({ code: "ERR_REGISTRY_UNAUTHORIZED" });
  });

  it("does not mix up the credentials of two users of one process", async () => {
    demandTokens();
    registry.seed(image, "1");
    registry.seed(emptyConfig);
    await open().resolve("1");
    const bob = open("team/app", { kind: "basic", username: "bob", password: "b" });
    await readAll(await bob.fetch(emptyConfig.descriptor));
    expect(tokenRequests().map(({ url }) => new URL(url, registry.origin).searchParams.get("account"))).toEqual(["alice", "bob"]);
  });

  it("asks the credentials for the host as references write it", async () => {
    registry.on("*", /^\/v2\//, answer(401, { "www-authenticate": "Basic realm=x" }));
    const asked: string[] = [];
    const store = openRegistry({
      host: registry.host.toUpperCase(),
      repository: "team/app",
      transport,
      credentials: (host, repository) => {
        asked.push(`${host} ${repository}`);
        return credentialsFor("other.example", alice)(host, repository);
      },
    });
    await errorOf(store.resolve("1"));
    expect(asked).toEqual([`${registry.host} team/app`]);
    expect(openRegistry({ host: "index.docker.io", repository: "library/alpine" }).name).toBe("docker://docker.io/library/alpine");
  });
});
