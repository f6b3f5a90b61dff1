import { describe, expect, it } from "vitest";
import { digestOf } from "../../src/bytes/index.ts";
import type { AuthOptions } from "../../src/registry-server/index.ts";
import { startRegistry, type Answer, type TestRegistry } from "./client.ts";

const users = { alice: "open:sesame", bob: "ünïcode" };
const basic = (name: string, password: string) => ({ authorization: `Basic ${Buffer.from(`${name}:${password}`).toString("base64")}` });
const alice = basic("alice", users.alice);
const blob = Buffer.from("content");
const upload = `/v2/team/app/blobs/uploads/?digest=${digestOf(blob)}`;

describe("basic authentication", () => {
  it("wants a password everywhere, and tells how", async () => {
    await using registry = await startRegistry({ auth: { kind: "basic", users } });
    for (const path of ["/v2/", "/v2/a/tags/list", `/v2/a/blobs/${digestOf(blob)}`, "/v2/_catalog"]) {
      const answer = await registry.call("GET", path);
      expect([answer.status, answer.headers["www-authenticate"]]).toEqual([401, 'Basic realm="ociseal registry", charset="UTF-8"']);
      expect(answer.code()).toBe("UNAUTHORIZED");
    }
  });

  it("takes passwords with colons and beyond ASCII, and refuses wrong ones", async () => {
    await using registry = await startRegistry({ auth: { kind: "basic", users } });
    for (const [name, password] of Object.entries(users)) {
      expect((await registry.call("GET", "/v2/", { headers: basic(name, password) })).status).toBe(200);
      expect((await registry.call("GET", "/v2/", { headers: basic(name, `${password}x`) })).status).toBe(401);
    }
    for (const name of ["nobody", "__proto__", "constructor", ""])
      expect((await registry.call("GET", "/v2/", { headers: basic(name, "") })).status).toBe(401);
  });

  it("keeps to its rules: who may do what where", async () => {
    const access = [
      { repository: "public/*", actions: ["pull"] },
      { user: "alice", repository: "*", actions: ["pull", "push", "delete"] },
      { user: "bob", repository: "team/app", actions: ["pull"] },
    ] as const;
    await using registry = await startRegistry({ auth: { kind: "basic", users, access } });
    const bob = basic("bob", users.bob);
    const digest = digestOf(blob);
    for (const name of ["team/app", "public/tool", "team/other"]) {
      const path = `/v2/${name}/blobs/uploads/?digest=${digest}`;
      expect((await registry.call("POST", path, { headers: alice, body: blob })).status).toBe(201);
    }
    expect((await registry.call("GET", `/v2/team/app/blobs/${digest}`, { headers: bob })).status).toBe(200);
    expect((await registry.call("GET", `/v2/team/other/blobs/${digest}`, { headers: bob })).code()).toBe("DENIED");
    expect((await registry.call("POST", upload, { headers: bob, body: blob })).code()).toBe("DENIED");
    expect((await registry.call("GET", `/v2/public/tool/blobs/${digest}`)).status).toBe(200);
    expect((await registry.call("GET", `/v2/public/blobs/${digest}`)).status).toBe(401);
    expect((await registry.call("GET", `/v2/team/app/blobs/${digest}`)).status).toBe(401);
    expect((await registry.call("GET", "/v2/_catalog")).json()).toEqual({ repositories: ["public/tool"] });
    expect((await registry.call("DELETE", `/v2/team/app/blobs/${digest}`, { headers: bob })).code()).toBe("DENIED");
  });

  it("does not mount from a repository that the client may not read (CVE-2024-39897)", async () => {
    const access = [
      { user: "alice", repository: "*", actions: ["pull", "push"] },
      { user: "bob", repository: "bob/*", actions: ["pull", "push"] },
    ] as const;
    await using registry = await startRegistry({ auth: { kind: "basic", users, access } });
    await registry.call("POST", `/v2/secret/blobs/uploads/?digest=${digestOf(blob)}`, { headers: alice, body: blob });
    for (const query of [`mount=${digestOf(blob)}&from=secret`, `mount=${digestOf(blob)}`]) {
      expect((await registry.call("POST", `/v2/bob/x/blobs/uploads/?${query}`, { headers: basic("bob", users.bob) })).status).toBe(202);
    }
  });

  it("gives an upload session to nobody else", async () => {
    await using registry = await startRegistry({ auth: { kind: "basic", users } });
    const { location = "" } = (await registry.call("POST", "/v2/a/blobs/uploads/", { headers: alice })).headers;
    expect((await registry.call("GET", location, { headers: basic("bob", users.bob) })).status).toBe(404);
    expect((await registry.call("GET", location, { headers: alice })).status).toBe(204);
  });
});

describe("token authentication", () => {
  const auth: AuthOptions = { kind: "token", users, service: "test" };

  function challengeOf(answer: Answer): ReadonlyMap<string, string> {
    return new Map(
      [...(answer.headers["www-authenticate"] ?? "").matchAll(/(\w+)="([^"]*)"/g)].map(([, key = "", value = ""]) => [key, value]),
    );
  }

  async function token(registry: TestRegistry, scope: string, headers?: Record<string, string>): Promise<Record<string, string>> {
    const answer = await registry.call("GET", `/auth/token?service=test&scope=${encodeURIComponent(scope)}`, { headers });
    return { authorization: `Bearer ${(answer.json() as { token: string }).token}` };
  }

  it("sends the client to its token endpoint with the scope that is needed", async () => {
    await using registry = await startRegistry({ auth });
    const answer = await registry.call("POST", upload, { body: blob });
    expect(answer.status).toBe(401);
    expect(Object.fromEntries(challengeOf(answer))).toEqual({
      realm: `${registry.server.url}/auth/token`,
      service: "test",
      scope: "repository:team/app:pull,push",
    });
    const mount = challengeOf(await registry.call("POST", `/v2/team/app/blobs/uploads/?mount=${digestOf(blob)}&from=other/one`));
    expect(mount.get("scope")).toBe("repository:team/app:pull,push repository:other/one:pull");
    expect(challengeOf(await registry.call("GET", "/v2/")).get("scope")).toBeUndefined();
    expect(challengeOf(await registry.call("DELETE", "/v2/team/app/manifests/v")).get("scope")).toBe("repository:team/app:delete");
  });

  it("wants a better token for a mount, and uploads where it is not granted", async () => {
    const access = [
      { user: "alice", repository: "*", actions: ["pull", "push"] },
      { user: "bob", repository: "bob/*", actions: ["pull", "push"] },
    ] as const;
    await using registry = await startRegistry({ auth: { ...auth, access } });
    const secret = await token(registry, "repository:secret:pull,push", alice);
    await registry.call("POST", `/v2/secret/blobs/uploads/?digest=${digestOf(blob)}`, { headers: secret, body: blob });
    const mount = (name: string, headers: Record<string, string>) =>
      registry.call("POST", `/v2/${name}/blobs/uploads/?mount=${digestOf(blob)}&from=secret`, { headers });
    const narrow = await mount("a", await token(registry, "repository:a:pull,push", alice));
    expect([narrow.status, challengeOf(narrow).get("scope")]).toEqual([401, "repository:a:pull,push repository:secret:pull"]);
    const both = (name: string) => `repository:${name}:pull,push repository:secret:pull`;
    expect((await mount("a", await token(registry, both("a"), alice))).status).toBe(201);
    expect((await mount("bob/x", await token(registry, both("bob/x"), basic("bob", users.bob)))).status).toBe(202);
  });

  it("lets a token do what its scope says and nothing else", async () => {
    await using registry = await startRegistry({ auth });
    const push = await token(registry, "repository:team/app:pull,push", alice);
    expect((await registry.call("POST", upload, { headers: push, body: blob })).status).toBe(201);
    const pull = await token(registry, "repository:team/app:pull", alice);
    expect((await registry.call("GET", `/v2/team/app/blobs/${digestOf(blob)}`, { headers: pull })).status).toBe(200);
    const refused = await registry.call("POST", upload, { headers: pull, body: blob });
    expect([refused.status, challengeOf(refused).get("error")]).toEqual([401, "insufficient_scope"]);
    const elsewhere = await registry.call("GET", `/v2/team/other/blobs/${digestOf(blob)}`, { headers: pull });
    expect(challengeOf(elsewhere).get("error")).toBe("insufficient_scope");
  });

  it("grants nothing to somebody without a password, and less than asked without saying so", async () => {
    await using registry = await startRegistry({
      auth: {
        ...auth,
        access: [
          { repository: "public/*", actions: ["pull"] },
          { user: "alice", repository: "*", actions: ["pull", "push"] },
        ],
      },
    });
    await registry.call("POST", `/v2/public/x/blobs/uploads/?digest=${digestOf(blob)}`, {
      headers: await token(registry, "repository:public/x:pull,push", alice),
      body: blob,
    });
    const anybody = await token(registry, "repository:public/x:pull,push");
    expect((await registry.call("GET", `/v2/public/x/blobs/${digestOf(blob)}`, { headers: anybody })).status).toBe(200);
    expect(
      (await registry.call("POST", `/v2/public/x/blobs/uploads/?digest=${digestOf(blob)}`, { headers: anybody, body: blob })).status,
    ).toBe(401);
    expect((await registry.call("GET", "/v2/", { headers: anybody })).status).toBe(200);
  });

  it("refuses a wrong password, a made-up token and one whose time is over", async () => {
    let now = 1_000_000;
    await using registry = await startRegistry({ auth: { ...auth, expiresInSeconds: 60 }, now: () => now });
    expect((await registry.call("GET", "/auth/token", { headers: basic("alice", "no") })).status).toBe(401);
    const made = await registry.call("GET", "/v2/", { headers: { authorization: "Bearer made-up" } });
    expect([made.status, challengeOf(made).get("error")]).toEqual([401, "invalid_token"]);
    const headers = await token(registry, "repository:a:pull", alice);
    expect((await registry.call("GET", "/v2/", { headers })).status).toBe(200);
    now += 60_000;
    expect((await registry.call("GET", "/v2/", { headers })).status).toBe(401);
  });

  it("gives tokens by OAuth2 POST: password, then refresh token", async () => {
    await using registry = await startRegistry({ auth });
    const form = (fields: Record<string, string>) =>
      registry.call("POST", "/auth/token", {
        body: new URLSearchParams(fields).toString(),
        headers: { "content-type": "application/x-www-form-urlencoded" },
      });
    const scope = "repository:a:pull,push repository:b:pull";
    const first = await form({
      grant_type: "password",
      username: "alice",
      password: users.alice,
      access_type: "offline",
      scope,
      service: "test",
      client_id: "t",
    });
    const { refresh_token: refresh, access_token: access } = first.json() as Record<string, string>;
    expect(access).toMatch(/^[\w-]{43}$/);
    const second = await form({ grant_type: "refresh_token", refresh_token: refresh ?? "", scope, service: "test", client_id: "t" });
    const { access_token: again } = second.json() as Record<string, string>;
    const headers = { authorization: `Bearer ${again}` };
    expect((await registry.call("POST", `/v2/a/blobs/uploads/?digest=${digestOf(blob)}`, { headers, body: blob })).status).toBe(201);
    expect((await form({ grant_type: "password", username: "alice", password: "no" })).status).toBe(401);
    expect((await form({ grant_type: "refresh_token", refresh_token: "no" })).status).toBe(401);
    expect((await form({ grant_type: "magic" })).status).toBe(400);
  });

  it("can send clients to another realm, for tests of clients", async () => {
    await using registry = await startRegistry({ auth: { ...auth, realm: "https://auth.example/token" } });
    expect(challengeOf(await registry.call("GET", "/v2/")).get("realm")).toBe("https://auth.example/token");
  });

  it("shows tests the headers that came in, and logs none of them", async () => {
    const seen: (string | undefined)[] = [];
    const logged: string[] = [];
    await using registry = await startRegistry({
      auth: { kind: "basic", users },
      observe: ({ headers }) => seen.push(headers.authorization),
      log: (record) => logged.push(JSON.stringify(record)),
    });
    await registry.call("GET", "/v2/?secret=1", { headers: alice });
    expect(seen).toEqual([alice.authorization]);
    expect(logged.join("")).not.toMatch(/secret|Basic|sesame/);
    expect(logged.join("")).toContain('"status":200');
  });
});
