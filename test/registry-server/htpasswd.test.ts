import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { ToolError } from "../../src/errors/index.ts";
import type { AccessRule, AuthOptions } from "../../src/registry-server/index.ts";
import { startDockerRegistry } from "../registry/docker-registry.ts";
import { missingPeers } from "../peers.ts";
import { call, startRegistry, type Call } from "./client.ts";

/** Made by libxcrypt's crypt(3), in the three spellings that there are. */
const alice = "alice:$2y$05$ociseal/test/salt.....2F6YtRgiyiXfRmd98mpSvFhVY/KfHG2";
const bob = "bob:$2b$04$another/salt.of.tests.E1TJ05gkiY8kBue8wJ8EwtYE2daI19i";
const aliceChanged = "alice:$2a$04$abcdefghijklmnopqrstuu5XQl64I3WPWSJw.ftK7xXCrRn1r6QJi";
const file = `# made by htpasswd -B\n${alice}\r\n\n${bob}\n`;

function basic(user: string, password: string): Call {
  return { headers: { authorization: `Basic ${Buffer.from(`${user}:${password}`).toString("base64")}` } };
}

async function passwordFile(text: string): Promise<{ readonly path: string } & AsyncDisposable> {
  const folder = await mkdtemp(join(tmpdir(), "ociseal-htpasswd-"));
  const path = join(folder, "users");
  await writeFile(path, text);
  return { path, [Symbol.asyncDispose]: () => rm(folder, { recursive: true, force: true }) };
}

const pullersAndAlice: readonly AccessRule[] = [
  { user: "*", repository: "*", actions: ["pull"] },
  { user: "alice", repository: "*", actions: ["pull", "push", "delete"] },
];

describe("an htpasswd file", () => {
  it("lets in whom it names, in all spellings of bcrypt, and nobody else", async () => {
    await using users = await passwordFile(file);
    await using registry = await startRegistry({ auth: { kind: "basic", htpasswd: users.path } });
    const status = async (user: string, password: string) => (await registry.call("GET", "/v2/", basic(user, password))).status;
    expect((await registry.call("GET", "/v2/")).status).toBe(401);
    expect(await status("alice", "open:sesame")).toBe(200);
    // The second time from memory.
    expect(await status("alice", "open:sesame")).toBe(200);
    expect(await status("bob", "pa55 wörd")).toBe(200);
    expect(await status("alice", "open:sesam")).toBe(401);
    expect(await status("bob", "open:sesame")).toBe(401);
    expect(await status("bob", "pa55 wörd\0")).toBe(401);
    expect(await status("carol", "open:sesame")).toBe(401);
    expect(await status("", "")).toBe(401);
    expect(await status("__proto__", "")).toBe(401);
  });

  it("is read again when it changes; what it does not allow any more ends at once, also refresh tokens", async () => {
    await using users = await passwordFile(file);
    await using registry = await startRegistry({ auth: { kind: "token", htpasswd: users.path } });
    const token = (credentials: Call) => registry.call("GET", "/auth/token?offline_token=true&scope=repository:app:pull", credentials);
    const first = await token(basic("alice", "open:sesame"));
    expect(first.status).toBe(200);
    const { refresh_token: refreshToken } = first.json() as { refresh_token: string };
    const renew = () =>
      registry.call("POST", "/auth/token", {
        body: new URLSearchParams({ grant_type: "refresh_token", refresh_token: refreshToken }).toString(),
      });
    expect((await renew()).status).toBe(200);
    await writeFile(users.path, `${aliceChanged}\n`);
    expect((await token(basic("alice", "open:sesame"))).status).toBe(401);
    expect((await token(basic("bob", "pa55 wörd"))).status).toBe(401);
    expect((await renew()).status).toBe(401);
    expect((await token(basic("alice", "changed"))).status).toBe(200);
  });

  it("lets nobody in while it is broken, and tells the operator alone", async () => {
    await using users = await passwordFile(file);
    const failures: (string | undefined)[] = [];
    await using registry = await startRegistry({
      auth: { kind: "basic", htpasswd: users.path },
      log: ({ failure }) => failures.push(failure),
    });
    await writeFile(users.path, "alice:open:sesame\n");
    const answer = await registry.call("GET", "/v2/", basic("alice", "open:sesame"));
    expect(answer.status).toBe(500);
    expect(answer.body.toString()).not.toContain(users.path);
    expect(failures.at(-1)).toContain("line 1 has no bcrypt hash");
    expect(failures.at(-1)).not.toContain("sesame");
    await writeFile(users.path, file);
    expect((await registry.call("GET", "/v2/", basic("alice", "open:sesame"))).status).toBe(200);
  });

  it.each([
    ["a line without a colon", "alice\n", "line 1 has no usable user name"],
    ["no user name", `${bob}\n:${alice.slice(6)}\n`, "line 2 has no usable user name"],
    ["the name that means everybody", alice.replace("alice", "*"), "line 1 has no usable user name"],
    ["an MD5 hash", "alice:$apr1$3WN5ulRX$7z5Kd9q8IRjvB7lJzYbH3.\n", "line 1 has no bcrypt hash"],
    ["a password in the clear", "# x\nalice:secret\n", "line 2 has no bcrypt hash"],
    ["a hash that takes for ever", alice.replace("$05$", "$31$"), "a bcrypt cost of 31"],
    ["the same user twice", `${alice}\n${aliceChanged}\n`, "line 2 has the same user"],
    ["no users", "# none yet\n", "it has no users"],
  ])("is refused with %s", async (_name, text, message) => {
    await using users = await passwordFile(text);
    const failure: unknown = await startRegistry({ auth: { kind: "basic", htpasswd: users.path } }).catch((error: unknown) => error);
    if (!(failure instanceof ToolError)) throw new Error("it was accepted");
    expect(failure.code).toBe("ERR_REGISTRY_SERVER_OPTIONS");
    expect(failure.message).toContain(message);
    for (const secret of ["secret", "2F6Yt", "7z5Kd"]) expect(failure.message).not.toContain(secret);
  });

  it("is refused when it is not there", async () => {
    const auth: AuthOptions = { kind: "basic", htpasswd: "/nonexistent/users" };
    await expect(startRegistry({ auth })).rejects.toMatchObject({ code: "ERR_REGISTRY_SERVER_OPTIONS" });
  });

  it("bounds the passwords that wait to be checked", async () => {
    await using users = await passwordFile(file.replace("$05$", "$10$"));
    await using registry = await startRegistry({ auth: { kind: "basic", htpasswd: users.path } });
    const guesses = Array.from({ length: 60 }, (_, i) =>
      registry.call("GET", "/v2/", basic("alice", `guess ${i}`)).then(({ status }) => status),
    );
    const statuses = new Set(await Promise.all(guesses));
    expect(statuses).toEqual(new Set([401, 429]));
    expect((await registry.call("GET", "/v2/", basic("bob", "pa55 wörd"))).status).toBe(200);
  });

  it("gives everybody what everybody may, and users what they may", async () => {
    await using users = await passwordFile(file);
    await using registry = await startRegistry({ auth: { kind: "basic", htpasswd: users.path, access: pullersAndAlice } });
    const push = (user: string, password: string) => registry.call("POST", "/v2/app/blobs/uploads/", basic(user, password));
    expect((await push("alice", "open:sesame")).status).toBe(202);
    const refused = await push("bob", "pa55 wörd");
    expect([refused.status, refused.code()]).toEqual([403, "DENIED"]);
    expect((await registry.call("GET", "/v2/app/tags/list", basic("bob", "pa55 wörd"))).status).not.toBe(403);
    expect((await registry.call("GET", "/v2/app/tags/list")).status).toBe(401);
  });
});

describe.skipIf(missingPeers("docker-registry"))("docker-registry", () => {
  it("decides about the same file as we do", async () => {
    await using users = await passwordFile(file);
    const theirs = await startDockerRegistry(`auth: {htpasswd: {realm: test, path: ${users.path}}}\n`);
    try {
      await using ours = await startRegistry({ auth: { kind: "basic", htpasswd: users.path } });
      for (const [user, password] of [
        ["alice", "open:sesame"],
        ["bob", "pa55 wörd"],
        ["alice", "wrong"],
        ["bob", ""],
        ["carol", "open:sesame"],
      ] as const) {
        const [mine, other] = [
          await ours.call("GET", "/v2/", basic(user, password)),
          await call(`http://${theirs.host}/v2/`, "GET", basic(user, password)),
        ];
        expect(mine.status).toBe(other.status);
      }
    } finally {
      await theirs.close();
    }
  });
});
