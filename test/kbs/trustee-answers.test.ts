import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { createSecureServer, type Http2ServerRequest, type Http2ServerResponse } from "node:http2";
import type { AddressInfo, Server } from "node:net";
import { afterEach, describe, expect, it } from "vitest";
import { connectKbsAdmin, type KbsAdmin } from "../../src/kbs/index.ts";
import { caCertificate, serverCertificate, serverKey } from "../registry/test-certificates.ts";

type Turn = readonly [status: number, type?: string, detail?: string];

let closing: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
  closing = [];
});

const listening = async (server: Server): Promise<number> => {
  await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
  closing.push(() => new Promise((done) => server.close(done)));
  return (server.address() as AddressInfo).port;
};

/** What Trustee 0.21 was seen to answer: no mark of ours, no body for paths that it does not know. The same acts are tried on a real one in trustee.test.ts. */
async function trusteeThat(answers: (method: string, path: string) => Turn | undefined): Promise<{ admin: KbsAdmin; seen: string[] }> {
  const seen: string[] = [];
  const answer = (request: IncomingMessage, response: ServerResponse): void => {
    const [method = "", path = ""] = [request.method, request.url];
    seen.push(`${method} ${path}`);
    const [status, type, detail] = answers(method, path) ?? (path.startsWith("/kbs/v0/") ? [200] : [404]);
    const body =
      type === undefined ? "" : JSON.stringify({ type: `https://github.com/confidential-containers/kbs/errors/${type}`, detail });
    request.resume().once("end", () => response.writeHead(status).end(body));
  };
  const port = await listening(createServer(answer));
  const admin = connectKbsAdmin({ url: `http://127.0.0.1:${port}`, token: "t" });
  closing.push(() => admin.close());
  return { admin, seen };
}

const always = (turn: Turn) => trusteeThat((_method, path) => (path.startsWith("/kbs/v0/") ? turn : undefined));
const uri = "kbs:///default/key/one";
const value = Buffer.from("v");

describe("what Trustee answers to an administrator", () => {
  it("is not asked to write on a condition, for it would write all the same", async () => {
    const { admin, seen } = await trusteeThat(() => undefined);
    for (const condition of ["absent", { version: 3 }] as const)
      await expect(admin.putResource(uri, value, { condition })).rejects.toMatchObject({
        code: "ERR_KBS_REQUEST_REFUSED",
        message: expect.stringContaining("would write over") as unknown,
      });
    expect(seen).toEqual(["GET /healthz", "GET /healthz"]);
    expect(await admin.putResource(uri, value)).toBe("stored");
  });

  it.each(["AdminAuthAccess", "AdminAuthInitialization", "AdminAuth"])("with %s is about the token", async (type) => {
    const { admin } = await always([401, type, "Admin access denied: no"]);
    await expect(admin.putResource(uri, value)).rejects.toMatchObject({ code: "ERR_KBS_ADMIN_DENIED" });
    await expect(admin.deleteResource(uri)).rejects.toMatchObject({ code: "ERR_KBS_ADMIN_DENIED" });
    await expect(admin.references.get("svn")).rejects.toMatchObject({ code: "ERR_KBS_ADMIN_DENIED" });
  });

  it.each(["ParsePolicyError", "PolicyEngine", "RvpsError", "PluginInternalError", "SerdeError"])(
    "with %s is about the request",
    async (type) => {
      const { admin } = await always([401, type, "it went wrong"]);
      await expect(admin.putResource(uri, value)).rejects.toMatchObject({
        code: "ERR_KBS_REQUEST_REFUSED",
        message: expect.stringContaining("it went wrong") as unknown,
        hint: expect.stringContaining("the token was accepted") as unknown,
      });
    },
  );

  it("with its only word for a resource that is not there says so", async () => {
    const { admin } = await always([401, "PluginInternalError", "Plugin internal error"]);
    await expect(admin.deleteResource(uri)).rejects.toMatchObject({ code: "ERR_KBS_NOT_FOUND" });
  });

  it("with a 401 for a reference value that nobody registered is no value", async () => {
    const detail = "RVPS configuration failed: Failed to get reference_values: No reference value found for the given id: svn";
    const { admin } = await always([401, "RvpsError", detail]);
    expect(await admin.references.get("svn")).toBeUndefined();
  });

  it.each([
    ["a plugin that it does not know", [404, "PluginNotFound", "Plugin reference-value not found"]],
    ["a request that it takes for a guest's", [401, "TokenVerifierError", "Token Verifier error"]],
    ["a request without what a guest has", [401, "TokenNotFound", "Attestation Token not found"]],
  ] as const)("to %s is that it does not offer this", async (_, turn) => {
    const { admin } = await always(turn);
    for (const asked of [
      () => admin.references.delete("svn"),
      () => admin.listResources(),
      () => admin.keys.list(),
      () => admin.audit.read(),
    ])
      await expect(asked()).rejects.toMatchObject({
        code: "ERR_KBS_REQUEST_REFUSED",
        message: expect.stringContaining("it is not ociseal kbs") as unknown,
      });
  });

  it("with 405 is that it does not delete yet, as before 0.20", async () => {
    const { admin } = await always([405]);
    await expect(admin.deleteResource(uri)).rejects.toMatchObject({
      code: "ERR_KBS_REQUEST_REFUSED",
      message: expect.stringContaining("it is not ociseal kbs") as unknown,
    });
  });

  it("comes over HTTP/1.1 though it offers HTTP/2, over which its rules see a whole URL and match none", async () => {
    const versions: string[] = [];
    const answer = (request: Http2ServerRequest, response: Http2ServerResponse): void => {
      versions.push(request.httpVersion);
      request.resume().once("end", () => response.writeHead(200).end());
    };
    const port = await listening(createSecureServer({ key: serverKey, cert: serverCertificate, allowHTTP1: true }, answer));
    const admin = connectKbsAdmin({ url: `https://127.0.0.1:${port}`, token: "t", tls: { authorities: caCertificate } });
    closing.push(() => admin.close());
    await admin.putResource(uri, value);
    expect(versions).toEqual(["1.1"]);
  });
});
