import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { once } from "node:events";
import { createServer, type IncomingMessage } from "node:http";
import { connect, type AddressInfo, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import {
  credentialsFor,
  openRegistry,
  parseRegistriesConf,
  RegistryTransport,
  type RegistryNotice,
  type TransportOptions,
} from "../../src/registry/index.ts";
import { errorOf } from "./captures.ts";
import { answer, startFaultServer, type FaultServer } from "./fault-server.ts";
import { emptyConfig, manifestOf, randomBlob, readAll, referrerOf } from "./images.ts";
import { readCertsDir } from "../../src/registry/tls-material.ts";
import { caCertificate, clientCertificate, clientKey, serverCertificate, serverKey } from "./test-certificates.ts";

const fast: TransportOptions = { retry: { attempts: 2, baseMs: 1, maxMs: 2, budgetMs: 2000 }, timeouts: { connectMs: 3000 } };
const image = manifestOf(emptyConfig, []);

let closing: (() => Promise<unknown> | void)[];
let folder: string;
beforeEach(() => {
  closing = [];
  folder = mkdtempSync(join(tmpdir(), "ociseal-network-"));
});
afterEach(async () => {
  for (const close of closing.reverse()) await close();
  rmSync(folder, { recursive: true, force: true });
});

const transportOf = (options: TransportOptions = {}) => {
  const transport = new RegistryTransport({ ...fast, ...options });
  closing.push(() => transport.close());
  return transport;
};
const start = async (tls?: Parameters<typeof startFaultServer>[0]): Promise<FaultServer> => {
  const server = await startFaultServer(tls);
  closing.push(() => server.close());
  server.seed(image, "1");
  return server;
};
const tls = { key: serverKey, cert: serverCertificate };
const open = (host: string, transport: RegistryTransport) => openRegistry({ host, repository: "app", transport });

describe("TLS", () => {
  it("trusts a CA that it was given", async () => {
    const server = await start(tls);
    expect(await open(server.host, transportOf({ ca: [caCertificate] })).resolve("1")).toEqual(image.descriptor);
  });

  it("does not trust a CA that nobody gave it, and does not fall back to plain HTTP", async () => {
    const server = await start(tls);
    const error = await errorOf(open(server.host, transportOf()).resolve("1"));
    expect(error).toMatchObject({ code: "ERR_REGISTRY_TLS", category: "denied" });
    expect(error.hint).toContain("--tls-ca");
    expect(server.requests).toEqual([]);
  });

  it("refuses a certificate for another name", async () => {
    const server = await start(tls);
    const host = server.host.replace("127.0.0.1", "127.0.0.2");
    const forwarded = await forward(server, "127.0.0.2");
    const error = await errorOf(open(forwarded ?? host, transportOf({ ca: [caCertificate] })).resolve("1"));
    expect(error).toMatchObject({ code: "ERR_REGISTRY_TLS" });
    expect(error.hint).toContain("another name");
  });

  it("shows a client certificate to registries, and not to where they redirect", async () => {
    const mutual = { ...tls, ca: [caCertificate], requestCert: true, rejectUnauthorized: true };
    const server = await start(mutual);
    const options = { ca: [caCertificate], clientCertificate: { cert: clientCertificate, key: clientKey } };
    expect(await open(server.host, transportOf(options)).resolve("1")).toEqual(image.descriptor);
    expect(await errorOf(open(server.host, transportOf({ ca: [caCertificate] })).resolve("1"))).toMatchObject({
      category: expect.stringMatching(/denied|unavailable/) as string,
    });
    const elsewhere = await start(mutual);
    server.on("GET", /manifests/, answer(307, { location: `${elsewhere.origin}/v2/app/manifests/1` }));
    expect(await errorOf(open(server.host, transportOf(options)).resolve("1"))).toBeInstanceOf(Error);
    expect(elsewhere.requests).toEqual([]);
  });

  it("finds CA and client certificates in certs.d, for that host alone", async () => {
    const server = await start({ ...tls, ca: [caCertificate], requestCert: true, rejectUnauthorized: true });
    const path = join(folder, server.host);
    mkdirSync(path);
    writeFileSync(join(path, "ca.crt"), caCertificate);
    writeFileSync(join(path, "client.cert"), clientCertificate);
    writeFileSync(join(path, "client.key"), clientKey);
    const certsDirs = [join(folder, "absent"), folder];
    expect(await open(server.host, transportOf({ certsDirs })).resolve("1")).toEqual(image.descriptor);
    const other = await start(tls);
    expect(await errorOf(open(other.host, transportOf({ certsDirs })).resolve("1"))).toMatchObject({ code: "ERR_REGISTRY_TLS" });
    rmSync(join(path, "client.key"));
    expect(await errorOf(open(server.host, transportOf({ certsDirs })).resolve("1"))).toMatchObject({
      code: "ERR_REGISTRY_CONFIG_MALFORMED",
    });
    writeFileSync(join(path, "client.key"), clientKey);
    writeFileSync(join(path, "ca.crt"), "-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----\n");
    expect(await errorOf(open(server.host, transportOf({ certsDirs })).resolve("1"))).toMatchObject({
      category: expect.stringMatching(/usage|denied/) as string,
    });
  });
});

describe("certs.d", () => {
  it("names a host on the usual port with the port or without, and another port always", () => {
    mkdirSync(join(folder, "usual.example:443"));
    writeFileSync(join(folder, "usual.example:443", "ca.crt"), "usual");
    mkdirSync(join(folder, "other.example"));
    writeFileSync(join(folder, "other.example", "ca.crt"), "other");
    const read = (url: string) => readCertsDir([folder], new URL(url)).ca.map(String);
    expect(read("https://usual.example")).toEqual(["usual"]);
    expect(read("https://usual.example:443")).toEqual(["usual"]);
    expect(read("https://usual.example:444")).toEqual([]);
    expect(read("https://other.example")).toEqual(["other"]);
    expect(read("https://other.example:444")).toEqual([]);
  });
});

describe("plain HTTP", () => {
  it("is spoken on loopback where nobody answers TLS, and never where TLS is demanded", async () => {
    const server = await start();
    expect(await open(server.host, transportOf()).resolve("1")).toEqual(image.descriptor);
    const error = await errorOf(open(server.host, transportOf({ scheme: "https" })).resolve("1"));
    expect(error).toMatchObject({ category: expect.stringMatching(/denied|unavailable/) as string });
    expect(server.requests).toHaveLength(1);
  });

  it("is not tried for other hosts unless they are named", async () => {
    // A name that resolves nowhere: what counts is which scheme would have been used.
    expect((await transportOf().access("registry.invalid:5000")).origin.href).toBe("https://registry.invalid:5000/");
    expect((await transportOf({ plainHttpHosts: ["registry.invalid:5000"] }).access("registry.invalid:5000")).origin.protocol).toBe(
      "http:",
    );
    expect((await transportOf({ plainHttpHosts: ["registry.invalid"] }).access("registry.invalid:5000")).origin.protocol).toBe("https:");
    expect((await transportOf({ scheme: "http" }).access("registry.invalid")).origin.protocol).toBe("http:");
    expect((await transportOf().access("docker.io")).origin.href).toBe("https://registry-1.docker.io/");
  });

  it("or unchecked TLS is what registries.conf can ask for", async () => {
    const server = await start(tls);
    const conf = parseRegistriesConf([{ path: "registries.conf", text: `[[registry]]\nlocation = "${server.host}"\ninsecure = true\n` }]);
    const store = openRegistry({ host: server.host, repository: "app", transport: transportOf(), registriesConf: conf });
    expect(await store.resolve("1")).toEqual(image.descriptor);
  });

  it.each([
    "",
    "a b",
    "-a",
    "a..b",
    "host:0",
    "host:65536",
    "host:x",
    "user@host",
    "host/path",
    "[::1",
    "::1",
    "[fe80::1%25eth0]",
    "h\u0000st",
    "bücher.example",
  ])("and TLS are refused to %j, which is no host", (host) => {
    expect(() => openRegistry({ host, repository: "a" })).toThrow(expect.objectContaining({ code: "ERR_REGISTRY_NAME_MALFORMED" }));
  });

  it.each(["", "A", "a/", "/a", "a//b", "a..b", "../a", "a?b", "a#b", "a%2fb", "a b", "a".repeat(256)])(
    "are refused to %j, which is no repository",
    (repository) => {
      expect(() => openRegistry({ host: "h.example", repository })).toThrow(
        expect.objectContaining({ code: "ERR_REGISTRY_NAME_MALFORMED" }),
      );
    },
  );

  it.each(["", "-a", ".a", "a/b", "a?b", "a:b", "../x", "a".repeat(129), "sha256:abc"])(
    "are refused to %j, which is no tag",
    async (tag) => {
      const store = openRegistry({ host: "h.example", repository: "a" });
      expect(await errorOf(store.resolve(tag))).toMatchObject({ code: "ERR_REGISTRY_NAME_MALFORMED" });
    },
  );
});

describe("a proxy", () => {
  /** Carries plain requests and tunnels, and writes down what it was asked. */
  async function startProxy(target: () => FaultServer) {
    const seen: { method: string; url: string; authorization: string | undefined; proxyAuthorization: string | undefined }[] = [];
    const record = (request: IncomingMessage) =>
      void seen.push({
        method: request.method ?? "",
        url: request.url ?? "",
        authorization: request.headers.authorization,
        proxyAuthorization: request.headers["proxy-authorization"],
      });
    const server = createServer((request, response) => {
      record(request);
      const found = target().manifests.get("1");
      response.writeHead(200, { "content-type": found?.type ?? "" }).end(found?.bytes);
    });
    server.on("connect", (request: IncomingMessage, socket: Socket) => {
      record(request);
      const [address = "", port = ""] = target().host.split(":");
      const upstream = connect(Number(port), address, () => {
        socket.write("HTTP/1.1 200 OK\r\n\r\n");
        upstream.pipe(socket).pipe(upstream);
      });
      upstream.on("error", () => socket.destroy());
      socket.on("error", () => upstream.destroy());
      closing.push(
        () => void upstream.destroy(),
        () => void socket.destroy(),
      );
    });
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    closing.push(async () => {
      server.closeAllConnections();
      server.close();
      await once(server, "close");
    });
    return { url: `http://user:proxy-secret@127.0.0.1:${(server.address() as AddressInfo).port}`, seen };
  }

  it("tunnels TLS, sees the host and its own credentials, and nothing else", async () => {
    const server = await start(tls);
    const { url, seen } = await startProxy(() => server);
    server.on("GET", /manifests/, async (context) => {
      if (context.request.headers.authorization !== undefined) return context.pass();
      await answer(401, { "www-authenticate": "Basic realm=x" })(context);
    });
    const store = openRegistry({
      host: "registry.test:8443",
      repository: "app",
      transport: transportOf({ ca: [caCertificate], proxy: { https: url } }),
      credentials: credentialsFor("registry.test:8443", { kind: "basic", username: "u", password: "p" }),
    });
    expect(await store.resolve("1")).toEqual(image.descriptor);
    expect(seen).toEqual([
      {
        method: "CONNECT",
        url: "registry.test:8443",
        authorization: undefined,
        proxyAuthorization: `Basic ${Buffer.from("user:proxy-secret").toString("base64")}`,
      },
    ]);
    expect(server.requests.every(({ headers }) => headers["proxy-authorization"] === undefined)).toBe(true);
  });

  it("gets no more tunnels than the limit, and each is used again", async () => {
    const server = await start(tls);
    const { url, seen } = await startProxy(() => server);
    const transport = transportOf({ ca: [caCertificate], proxy: { https: url }, concurrency: 3 });
    const store = open("registry.test:8443", transport);
    const blobs = Array.from({ length: 40 }, () => randomBlob(3000));
    await Promise.all(blobs.map(({ descriptor, source }) => store.push(descriptor, source)));
    await Promise.all(blobs.map(async ({ descriptor }) => readAll(await store.fetch(descriptor))));
    expect(server.connections.most).toBeLessThanOrEqual(3);
    expect(seen.length).toBeLessThanOrEqual(3);
  });

  it("carries plain HTTP where that was asked for", async () => {
    const server = await start();
    const { url, seen } = await startProxy(() => server);
    const transport = transportOf({ plainHttpHosts: ["registry.test"], proxy: { http: url } });
    expect(await open("registry.test", transport).resolve("1")).toEqual(image.descriptor);
    expect(seen[0]?.url).toBe("http://registry.test/v2/app/manifests/1");
  });

  it("is not used for loopback, nor for what NO_PROXY names", async () => {
    const server = await start();
    const proxy = { http: "http://127.0.0.1:1", https: "http://127.0.0.1:1" };
    expect(await open(server.host, transportOf({ proxy })).resolve("1")).toEqual(image.descriptor);
  });

  it.each([
    [407, "ERR_REGISTRY_UNAUTHORIZED"],
    [403, "ERR_REGISTRY_FORBIDDEN"],
  ] as const)("that answers a tunnel with %d is asked once, and not the registry is blamed", async (status, code) => {
    const proxy = createServer();
    let asked = 0;
    proxy.on("connect", (_request: IncomingMessage, socket: Socket) => {
      asked += 1;
      socket.end(`HTTP/1.1 ${status} No\r\n\r\n`);
    });
    proxy.listen(0, "127.0.0.1");
    await once(proxy, "listening");
    closing.push(() => void proxy.close());
    const https = `http://user:proxy-secret@127.0.0.1:${(proxy.address() as AddressInfo).port}`;
    const error = await errorOf(open("registry.test", transportOf({ proxy: { https } })).resolve("1"));
    expect(error).toMatchObject({ code, message: expect.stringContaining("the proxy") as string });
    expect(JSON.stringify([error, error.message, String(error.cause)])).not.toContain("proxy-secret");
    expect(asked).toBe(1);
  });

  it("that refuses or is no proxy URL is named without its password", async () => {
    for (const https of ["http://user:proxy-secret@127.0.0.1:1", "ftp://user:proxy-secret@h", "http://:proxy-secret@"]) {
      const error = await errorOf(open("registry.test", transportOf({ proxy: { https } })).resolve("1"));
      expect(`${error.message} ${error.hint}`).not.toContain("proxy-secret");
    }
  });
});

describe("mirrors", () => {
  const conf = (text: string) => parseRegistriesConf([{ path: "registries.conf", text }]);
  const setUp = async (use = "") => {
    const [primary, mirror] = [await start(), await start()];
    const notices: RegistryNotice[] = [];
    const transport = transportOf({ onNotice: (notice) => notices.push(notice) });
    const registriesConf = conf(`[[registry]]
prefix = "${primary.host}/team"
location = "${primary.host}/moved"
[[registry.mirror]]
location = "${mirror.host}/cache"
${use}`);
    const store = openRegistry({
      host: primary.host,
      repository: "team/app",
      transport,
      registriesConf,
      credentials: credentialsFor(primary.host, { kind: "basic", username: "u", password: "p" }),
    });
    return { primary, mirror, notices, store };
  };

  it("are read first, under their own name, and what they lack comes from the registry", async () => {
    const { primary, mirror, store } = await setUp();
    const blob = randomBlob(1000);
    primary.seed(blob);
    expect(store.name).toBe(`docker://${primary.host}/team/app`);
    expect(await store.resolve("1")).toEqual(image.descriptor);
    expect((await readAll(await store.fetch(blob.descriptor))).equals(blob.bytes)).toBe(true);
    const ns = `ns=${encodeURIComponent(primary.host)}`;
    expect(mirror.requests.map(({ url }) => url)).toEqual([
      `/v2/cache/app/manifests/1?${ns}`,
      `/v2/cache/app/blobs/${blob.descriptor.digest}?${ns}`,
    ]);
    expect(primary.requests.map(({ url }) => url)).toEqual([`/v2/moved/app/blobs/${blob.descriptor.digest}`]);
  });

  it("are never written to, and never shown the registry's credentials", async () => {
    const { primary, mirror, store } = await setUp();
    mirror.on("*", /./, answer(401, { "www-authenticate": "Basic realm=x" }));
    const blob = randomBlob(10);
    await store.push(blob.descriptor, blob.source);
    await store.resolve("1");
    expect(primary.blobs.has(blob.descriptor.digest)).toBe(true);
    expect(mirror.requests.map(({ method }) => method)).toEqual(["GET"]);
    expect(JSON.stringify(mirror.requests)).not.toContain(Buffer.from("u:p").toString("base64"));
  });

  it("that lie or fail are passed over, and the failure is told", async () => {
    const { primary, mirror, notices, store } = await setUp();
    const other = manifestOf(emptyConfig, [emptyConfig]);
    mirror.manifests.set(image.descriptor.digest, { type: other.descriptor.mediaType, bytes: other.bytes });
    expect((await readAll(await store.fetch(image.descriptor))).equals(image.bytes)).toBe(true);
    expect(primary.requests).toHaveLength(1);
    await mirror.close();
    expect(await store.resolve("1")).toEqual(image.descriptor);
    expect(notices.filter(({ kind }) => kind === "mirror-failed")).toHaveLength(2);
  });

  it("that break off in the middle of a blob are left, and the registry gives the rest", async () => {
    const { primary, mirror, notices, store } = await setUp();
    const blob = randomBlob(600_000);
    primary.seed(blob);
    mirror.on("GET", /blobs/, answer(503));
    mirror.on(
      "GET",
      /blobs/,
      ({ response }) => {
        response.writeHead(200, { "content-length": blob.bytes.length });
        response.write(blob.bytes.subarray(0, 200_000), () => setTimeout(() => response.destroy(), 20));
      },
      1,
    );
    expect((await readAll(await store.fetch(blob.descriptor))).equals(blob.bytes)).toBe(true);
    expect(primary.requests.map(({ headers }) => headers["range"])).toEqual([expect.stringMatching(/^bytes=[1-9]\d*-599999$/)]);
    expect(notices.map(({ kind }) => kind)).toContain("mirror-failed");
  });

  it("that give another blob fail the reading, under their own name", async () => {
    const { primary, mirror, store } = await setUp();
    const blob = randomBlob(5000);
    primary.seed(blob);
    const flipped = Buffer.from(blob.bytes);
    flipped[99] = (flipped[99] ?? 0) ^ 1;
    mirror.blobs.set(blob.descriptor.digest, flipped);
    const error = await errorOf(store.fetch(blob.descriptor).then(readAll));
    expect(error).toMatchObject({ code: "ERR_CONTENT_DIGEST_MISMATCH" });
    expect(error.message).toContain(`docker://${mirror.host}/cache/app`);
  });

  it("for digests only are not believed a tag; for tags only, no digest", async () => {
    const digests = await setUp('pull-from-mirror = "digest-only"');
    await digests.store.resolve("1");
    await readAll(await digests.store.fetch(manifestOf(emptyConfig, []).descriptor));
    expect(digests.mirror.requests).toEqual([]);
    const tags = await setUp('pull-from-mirror = "tag-only"');
    await tags.store.resolve("1");
    await tags.store.resolve(image.descriptor.digest);
    expect(tags.mirror.requests).toHaveLength(1);
  });

  it("are not asked for what was just written, nor is the client's own memory", async () => {
    const { primary, mirror, store } = await setUp();
    await store.push(image.descriptor, image.source);
    primary.requests.length = 0;
    expect((await readAll(await store.fetch(image.descriptor, { read: "afresh" }))).equals(image.bytes)).toBe(true);
    expect(await store.resolve("1", { read: "afresh" })).toEqual(image.descriptor);
    expect(primary.requests.map(({ method, url }) => `${method} ${url}`)).toEqual([
      `GET /v2/moved/app/manifests/${image.descriptor.digest}`,
      "GET /v2/moved/app/manifests/1",
    ]);
    expect(mirror.requests).toEqual([]);
  });

  it("that have no referrers prove nothing", async () => {
    const { primary, store } = await setUp();
    const referrer = referrerOf(image.descriptor, "one");
    primary.on(
      "GET",
      /referrers/,
      answer(
        200,
        { "content-type": "application/vnd.oci.image.index.v1+json" },
        JSON.stringify({ schemaVersion: 2, manifests: [referrer.descriptor] }),
      ),
    );
    expect(await store.referrers(image.descriptor)).toHaveLength(1);
  });

  it("and locations follow the longest prefix, on whole path segments", async () => {
    const { routeTo } = await import("../../src/registry/registries-conf.ts");
    const rules = conf(`
unqualified-search-registries = ["docker.io"]
[[registry]]
location = "docker.io"
[[registry.mirror]]
location = "mirror.example/hub"
insecure = true
[[registry]]
prefix = "docker.io/library"
location = "lib.example/l"
[[registry]]
prefix = "*.corp.example"
blocked = true
`);
    expect(routeTo(rules, "docker.io", "library/alpine").primary).toEqual({ host: "lib.example", repository: "l/alpine", insecure: false });
    expect(routeTo(rules, "registry-1.docker.io", "libraryx/a")).toEqual({
      mirrors: [{ host: "mirror.example", repository: "hub/libraryx/a", insecure: true, use: "all" }],
      primary: { host: "docker.io", repository: "libraryx/a", insecure: false },
    });
    expect(routeTo(rules, "other.example", "a").primary).toEqual({ host: "other.example", repository: "a", insecure: false });
    expect(() => routeTo(rules, "a.corp.example:5000", "x")).toThrow(expect.objectContaining({ code: "ERR_REGISTRY_BLOCKED" }));
    expect(routeTo(rules, "corp.example", "x").primary.host).toBe("corp.example");
  });

  it.each([
    ["TOML that is none", "[[registry"],
    ["version 1", '[registries.search]\nregistries = ["docker.io"]'],
    ["a table instead of a list", "[registry]\nlocation = 'a'"],
    ["neither prefix nor location", "[[registry]]\ninsecure = true"],
    ["a mirror without a location", '[[registry]]\nlocation = "a.example"\n[[registry.mirror]]\ninsecure = true'],
    ["an unknown use", '[[registry]]\nlocation = "a.example"\n[[registry.mirror]]\nlocation = "b.example"\npull-from-mirror = "never"'],
    ["text for a flag", '[[registry]]\nlocation = "a.example"\nblocked = "yes"'],
    ["a wildcard with a location", '[[registry]]\nprefix = "*.a.example"\nlocation = "b.example"'],
  ])("cannot be configured by %s", (_, text) => {
    expect(() => conf(text)).toThrow(expect.objectContaining({ code: "ERR_REGISTRY_CONFIG_MALFORMED" }));
  });

  it("of a later file replace those of an earlier one with the same prefix", () => {
    const parsed = parseRegistriesConf([
      { path: "a", text: '[[registry]]\nlocation = "a.example"\nblocked = true' },
      { path: "b", text: '[[registry]]\nlocation = "a.example"' },
    ]);
    expect(parsed.rules).toHaveLength(1);
    expect(parsed.rules[0]?.blocked).toBe(false);
  });
});

/** A port on another loopback address that leads to a server; `undefined` where the address does not exist. */
async function forward(server: FaultServer, address: string): Promise<string | undefined> {
  const [target = "", port = ""] = server.host.split(":");
  const { createServer: createTcp } = await import("node:net");
  const forwarder = createTcp((socket) => {
    const upstream = connect(Number(port), target);
    upstream.on("error", () => socket.destroy());
    socket.on("error", () => upstream.destroy());
    socket.pipe(upstream).pipe(socket);
    closing.push(() => void socket.destroy());
  });
  forwarder.listen(0, address);
  await once(forwarder, "listening");
  closing.push(() => void forwarder.close());
  return `${address}:${(forwarder.address() as AddressInfo).port}`;
}
