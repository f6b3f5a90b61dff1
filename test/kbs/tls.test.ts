import { execFileSync } from "node:child_process";
import { X509Certificate } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { sampleAttester } from "../../src/attestation/index.ts";
import {
  certificateIdentities,
  connectKbs,
  connectKbsAdmin,
  generateRootKey,
  openMemoryStore,
  serveKbs,
  type KbsServer,
  type TlsMaterial,
} from "../../src/kbs/index.ts";

const openssl = "/usr/bin/openssl";

/** Without openssl there are no certificates; says so aloud, and fails where `CI` is set. */
function missingOpenssl(): boolean {
  if (existsSync(openssl)) return false;
  if (process.env["CI"]) throw new Error("tests with certificates need openssl");
  process.stderr.write("SKIPPED: tests with TLS: openssl is not installed\n");
  return true;
}

interface Pair {
  readonly certificate: string;
  readonly privateKey: string;
}

let folder: string;
let authority: Pair;
let serial = 0;

async function issue(subject: string, san: string, by?: Pair): Promise<Pair> {
  serial += 1;
  const file = (name: string) => join(folder, `${serial}-${name}`);
  const run = (...parameters: string[]) => execFileSync(openssl, parameters, { stdio: ["ignore", "ignore", "pipe"] });
  run("genpkey", "-algorithm", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", file("key"));
  run("req", "-new", "-key", file("key"), "-subj", `/CN=${subject}`, "-out", file("csr"));
  await writeFile(file("ext"), by === undefined ? "basicConstraints=critical,CA:true\n" : `subjectAltName=${san}\n`);
  const signer = by === undefined ? ["-signkey", file("key")] : ["-CA", file("ca"), "-CAkey", file("cakey"), "-CAcreateserial"];
  if (by !== undefined) {
    await writeFile(file("ca"), by.certificate);
    await writeFile(file("cakey"), by.privateKey);
  }
  run("x509", "-req", "-in", file("csr"), "-days", "2", "-extfile", file("ext"), ...signer, "-out", file("crt"));
  return { certificate: await readFile(file("crt"), "utf8"), privateKey: await readFile(file("key"), "utf8") };
}

const fingerprint = ({ certificate }: Pair) => new X509Certificate(certificate).fingerprint256;

describe.skipIf(missingOpenssl())("a service with TLS", () => {
  let server: KbsServer;
  let first: Pair;
  let tls: TlsMaterial;

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "kbs-tls-"));
    authority = await issue("test authority", "");
    first = await issue("kbs", "IP:127.0.0.1", authority);
    tls = { ...first, clientAuthorities: authority.certificate };
    server = await serveKbs({
      listen: { host: "127.0.0.1", port: 0 },
      store: openMemoryStore(),
      rootKeys: [generateRootKey()],
      mode: "development",
      tls,
      certificateIdentity: certificateIdentities([{ alternativeName: "DNS:ci.example", roles: ["admin"] }], {}),
    });
  });
  afterAll(async () => {
    await server.close({ graceMs: 100 });
    await rm(folder, { recursive: true });
  });

  const guestWith = (options: object) => connectKbs({ url: server.url, attester: sampleAttester(), ...options });

  it("is reached by whoever trusts its authority, and by nobody else", async () => {
    const admin = connectKbsAdmin({ url: server.url, token: server.adminToken ?? "", tls: { authorities: authority.certificate } });
    await admin.putResource("kbs:///a/b/c", Buffer.from("x"));
    await admin.close();
    const guest = guestWith({ tls: { authorities: authority.certificate } });
    expect((await guest.fetchResource("kbs:///a/b/c")).toString()).toBe("x");
    await guest.close();
    const stranger = guestWith({});
    await expect(stranger.fetchResource("kbs:///a/b/c")).rejects.toMatchObject({ code: "ERR_KBS_UNREACHABLE" });
    await stranger.close();
  });

  it("is recognised by its pinned certificate", async () => {
    const right = guestWith({ tls: { authorities: authority.certificate, pinnedSha256: fingerprint(first) } });
    expect((await right.fetchResource("kbs:///a/b/c")).toString()).toBe("x");
    await right.close();
    const wrong = guestWith({ tls: { authorities: authority.certificate, pinnedSha256: fingerprint(authority) } });
    await expect(wrong.fetchResource("kbs:///a/b/c")).rejects.toMatchObject({
      code: "ERR_KBS_UNREACHABLE",
      message: expect.stringContaining("pinned"),
    });
    await wrong.close();
  });

  it("knows an administrator by a client certificate of the configured authority only", async () => {
    const known = await issue("ci", "DNS:ci.example", authority);
    const other = await issue("other", "DNS:other.example", authority);
    const self = await issue("rogue authority", "");
    const forged = await issue("ci", "DNS:ci.example", self);
    const put = async (clientCertificate: Pair | undefined) => {
      const admin = connectKbsAdmin({ url: server.url, tls: { authorities: authority.certificate, clientCertificate } });
      try {
        return await admin.putResource("kbs:///a/b/mtls", Buffer.from("x"));
      } catch (error) {
        return (error as { code: string }).code;
      } finally {
        await admin.close();
      }
    };
    expect([await put(known), await put(other), await put(forged), await put(undefined)]).toEqual([
      "stored",
      "ERR_KBS_ADMIN_DENIED",
      "ERR_KBS_ADMIN_DENIED",
      "ERR_KBS_ADMIN_DENIED",
    ]);
  });

  it("takes a new certificate without a restart", async () => {
    const second = await issue("kbs", "IP:127.0.0.1", authority);
    const ends = (pair: Pair) =>
      `ociseal_certificate_expiry_timestamp_seconds{certificate="tls"} ${new X509Certificate(pair.certificate).validToDate.getTime() / 1000}`;
    expect(server.metricsText()).toContain(ends(first));
    server.reloadTls({ ...second, clientAuthorities: authority.certificate });
    const pinned = guestWith({ tls: { authorities: authority.certificate, pinnedSha256: fingerprint(second) } });
    expect((await pinned.fetchResource("kbs:///a/b/c")).toString()).toBe("x");
    expect(server.metricsText()).toContain(ends(second));
    await pinned.close();
  });

  it("marks its session cookie as one for TLS only", async () => {
    const { Agent, request } = await import("undici");
    const agent = new Agent({ connect: { ca: authority.certificate } });
    const { headers, body } = await request(`${server.url}/kbs/v0/auth`, {
      dispatcher: agent,
      method: "POST",
      body: '{"version":"0.4.0","tee":"sample","extra-params":""}',
    });
    await body.dump();
    expect(String(headers["set-cookie"])).toMatch(/; Secure$/);
    await agent.close();
  });
});
