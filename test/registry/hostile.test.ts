import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { mediaTypes, serializeJson } from "../../src/oci/index.ts";
import {
  credentialsFor,
  openRegistry,
  RegistryTransport,
  type RegistryNotice,
  type RegistryStore,
  type TransportOptions,
} from "../../src/registry/index.ts";
import { errorOf, Secrets } from "./captures.ts";
import { answer, startFaultServer, type FaultServer } from "./fault-server.ts";
import { contentOf, emptyConfig, manifestOf, randomBlob, readAll, referrerOf, streamOf } from "./images.ts";
import { caCertificate, serverCertificate, serverKey } from "./test-certificates.ts";

const username = "alice";
const password = "pa55-of-alice/+";
const issued = "token-issued-for-alice";
const fast: TransportOptions = { retry: { attempts: 3, baseMs: 1, maxMs: 2, budgetMs: 2000 } };

describe("a hostile registry", () => {
  let registry: FaultServer;
  let foreign: FaultServer;
  let transport: RegistryTransport;
  let notices: RegistryNotice[];
  let secrets: Secrets;
  let failures: unknown[];

  beforeEach(async () => {
    registry = await startFaultServer();
    foreign = await startFaultServer();
    notices = [];
    failures = [];
    secrets = new Secrets(issued);
    secrets.addPair(username, password);
    transport = new RegistryTransport({ ...fast, onNotice: (notice) => notices.push(notice) });
  });
  afterEach(async () => {
    await transport.close();
    await registry.close();
    await foreign.close();
    secrets.expectAbsentAt(foreign);
    secrets.expectAbsentIn(JSON.stringify(notices));
    for (const failure of failures) secrets.expectAbsentInError(failure);
  });

  const open = (options: Partial<Parameters<typeof openRegistry>[0]> = {}): RegistryStore =>
    openRegistry({
      host: registry.host,
      repository: "victim/app",
      transport,
      credentials: credentialsFor(registry.host, { kind: "basic", username, password }),
      ...options,
    });
  const fails = async (promise: Promise<unknown>, code: string) => {
    const error = await errorOf(promise);
    failures.push(error);
    expect(error).toMatchObject({ code });
    return error;
  };
  /** The registry wants Basic for everything from now on. */
  const demandBasic = () =>
    registry.on("*", /./, async (context) => {
      if (context.request.headers.authorization !== undefined) return context.pass();
      await answer(401, { "www-authenticate": 'Basic realm="registry"' })(context);
    });
  const demandBearer = (realm: string) =>
    registry.on("*", /^\/v2\//, async (context) => {
      if (context.request.headers.authorization === `Bearer ${issued}`) return context.pass();
      await answer(401, { "www-authenticate": `Bearer realm="${realm}",service="registry",scope="repository:victim/app:pull"` })(context);
    });
  const image = manifestOf(emptyConfig, []);

  describe("that wants our credentials elsewhere", () => {
    it("names a token service on another port: refused, and told how to allow it", async () => {
      demandBearer(`${foreign.origin}/token`);
      const error = await fails(open().resolve("1"), "ERR_REGISTRY_REALM_REFUSED");
      expect(error.hint).toContain(`--allow-realm ${registry.host}=${foreign.host}`);
      expect(foreign.requests).toEqual([]);
    });

    it.each([
      ["no URL", "token"],
      ["another scheme", "file:///etc/passwd"],
      ["user information", "http://user:pw@127.0.0.1:1/token"],
    ])("names a token service that is %s", async (_, realm) => {
      demandBearer(realm);
      await fails(open().resolve("1"), "ERR_REGISTRY_REALM_REFUSED");
    });

    it("names a foreign token service to somebody without credentials: asked anonymously, the token goes to the registry alone", async () => {
      registry.seed(image, "1");
      demandBearer(`${foreign.origin}/token`);
      foreign.on("GET", /^\/token/, answer(200, {}, JSON.stringify({ token: issued })));
      const store = open({ credentials: () => Promise.resolve(undefined) });
      expect(await store.resolve("1")).toEqual(image.descriptor);
      expect(foreign.requests).toHaveLength(1);
    });

    it("trusts a pair of registry and token service that the user configured", async () => {
      registry.seed(image, "1");
      demandBearer(`${foreign.origin}/token`);
      const trusting = new RegistryTransport({ ...fast, trustedRealms: [{ registry: registry.host, realm: foreign.host }] });
      foreign.on("GET", /^\/token/, answer(200, {}, JSON.stringify({ token: issued })));
      expect(await open({ transport: trusting }).resolve("1")).toEqual(image.descriptor);
      const [request] = foreign.requests.splice(0);
      expect(request?.headers["authorization"]).toBe(`Basic ${Buffer.from(`${username}:${password}`).toString("base64")}`);
      await trusting.close();
    });

    it("has a token service that redirects: the credentials are not carried on", async () => {
      demandBearer(`${registry.origin}/token`);
      registry.on("GET", /^\/token/, answer(307, { location: `${foreign.origin}/token` }));
      await fails(open().resolve("1"), "ERR_REGISTRY_REDIRECT_REFUSED");
      expect(foreign.requests).toEqual([]);
    });

    it("redirects a blob to another port of the same host: followed, bare", async () => {
      const blob = randomBlob(1000);
      foreign.seed(blob);
      demandBasic();
      registry.on("GET", /blobs\/sha256/, async (context) => {
        if (context.request.headers.authorization === undefined) return context.pass();
        await answer(307, { location: `${foreign.origin}/v2/victim/app/blobs/${blob.descriptor.digest}?sig=abc` })(context);
      });
      registry.on("GET", /blobs\/sha256/, answer(401, { "www-authenticate": "Basic realm=x" }), 1);
      expect((await readAll(await open().fetch(blob.descriptor))).equals(blob.bytes)).toBe(true);
      expect(foreign.requests).toHaveLength(1);
    });

    it("redirects away and back to itself: what comes back is bare too", async () => {
      demandBasic();
      registry.on("GET", /manifests\/1$/, async (context) => {
        if (context.request.headers.authorization === undefined) return answer(401, { "www-authenticate": "Basic realm=x" })(context);
        await answer(307, { location: `${foreign.origin}/bounce` })(context);
      });
      foreign.on("GET", /bounce/, answer(307, { location: `${registry.origin}/v2/victim/app/manifests/private` }));
      await fails(open().resolve("1"), "ERR_REGISTRY_UNAUTHORIZED");
      const last = registry.requests.at(-1);
      expect(last?.url).toContain("manifests/private");
      expect(last?.headers["authorization"]).toBeUndefined();
    });

    it("redirects to a host that asks for Basic: the foreign challenge is not answered", async () => {
      demandBasic();
      registry.on("GET", /manifests\/1$/, answer(302, { location: `${foreign.origin}/steal` }));
      foreign.on("GET", /steal/, answer(401, { "www-authenticate": 'Basic realm="give"' }));
      await fails(open().resolve("1"), "ERR_REGISTRY_UNAUTHORIZED");
    });

    it("hands out an upload location on another origin: refused, nothing sent there", async () => {
      registry.on("POST", /uploads/, answer(202, { location: `${foreign.origin}/v2/victim/app/blobs/uploads/1` }));
      const blob = randomBlob(300_000);
      await fails(open().push(blob.descriptor, blob.source), "ERR_REGISTRY_REDIRECT_REFUSED");
      await fails(open().ingest(streamOf(blob.bytes), { size: blob.bytes.length }), "ERR_REGISTRY_REDIRECT_REFUSED");
      expect(foreign.requests).toEqual([]);
    });

    it("moves an upload to another origin after the first chunk", async () => {
      registry.on("PATCH", /uploads/, answer(202, { location: `//${foreign.host}/v2/victim/app/blobs/uploads/1` }));
      const blob = randomBlob(300_000);
      await fails(open().ingest(streamOf(blob.bytes), { size: blob.bytes.length }), "ERR_REGISTRY_REDIRECT_REFUSED");
      expect(foreign.requests).toEqual([]);
    });

    it("redirects an upload: a body is never carried along", async () => {
      registry.on("PUT", /uploads/, answer(307, { location: `${foreign.origin}/take` }));
      const blob = randomBlob(300_000);
      await fails(open().push(blob.descriptor, blob.source), "ERR_REGISTRY_PROTOCOL");
      expect(foreign.requests).toEqual([]);
    });

    it("names the next page of a listing on another origin", async () => {
      demandBasic();
      registry.on("GET", /tags\/list/, async (context) => {
        if (context.request.headers.authorization === undefined) return answer(401, { "www-authenticate": "Basic realm=x" })(context);
        await answer(200, { link: `<${foreign.origin}/v2/victim/app/tags/list?last=a>; rel="next"` }, '{"tags":["a"]}')(context);
      });
      await fails(open().tags(), "ERR_REGISTRY_REDIRECT_REFUSED");
      expect(foreign.requests).toEqual([]);
    });

    it("puts a line break into a token", async () => {
      demandBearer(`${registry.origin}/token`);
      registry.on("GET", /^\/token/, answer(200, {}, JSON.stringify({ token: "a\r\nx-evil: 1" })));
      await fails(open().resolve("1"), "ERR_REGISTRY_PROTOCOL");
    });
  });

  describe("that keeps us busy", () => {
    it("refuses every token for ever: two requests, not more", async () => {
      registry.on("*", /^\/v2\//, answer(401, { "www-authenticate": `Bearer realm="${registry.origin}/token",service="s"` }));
      registry.on("GET", /^\/token/, answer(200, {}, JSON.stringify({ token: issued })));
      await fails(open().resolve("1"), "ERR_REGISTRY_UNAUTHORIZED");
      expect(registry.count("GET", /^\/v2\//)).toBe(2);
      expect(registry.count("GET", /^\/token/)).toBe(1);
    });

    it("redirects in a circle", async () => {
      registry.on("GET", /manifests/, answer(302, { location: "/v2/victim/app/manifests/1" }));
      await fails(open().resolve("1"), "ERR_REGISTRY_REDIRECT_REFUSED");
      expect(registry.requests.length).toBeLessThan(8);
    });

    it("lists pages without end", async () => {
      registry.on("GET", /tags\/list/, ({ nth, ...context }) =>
        answer(200, { link: `</v2/victim/app/tags/list?last=${nth}>; rel="next"` }, `{"tags":["t${nth}"]}`)({ nth, ...context }),
      );
      await fails(open().tags(), "ERR_REGISTRY_PROTOCOL");
      expect(registry.requests.length).toBeLessThan(1100);
    });

    it("names the same page again and again", async () => {
      registry.on("GET", /tags\/list/, answer(200, { link: '</v2/victim/app/tags/list?last=x>; rel="next"' }, '{"tags":["a"]}'));
      await fails(open().tags(), "ERR_REGISTRY_PROTOCOL");
      expect(registry.requests).toHaveLength(2);
    });

    it("wants us to wait an hour: says so at once", async () => {
      registry.on("GET", /manifests/, answer(429, { "retry-after": "3600", "ratelimit-limit": "100;w=21600" }));
      const error = await fails(open().resolve("1"), "ERR_REGISTRY_RATE_LIMITED");
      expect(error.message).toContain("its limit is 100 requests in 360 min; the registry asks to wait 3600 s");
      await fails(open().resolve("2"), "ERR_REGISTRY_RATE_LIMITED");
      expect(registry.requests).toHaveLength(1);
    });

    it.each([
      ["manifest", /manifests\/1$/, (store: RegistryStore) => store.resolve("1")],
      ["tag list", /tags\/list/, (store: RegistryStore) => store.tags()],
      ["token", /^\/token/, (store: RegistryStore) => store.resolve("1")],
    ] as const)("sends a %s without end", async (kind, path, use) => {
      if (kind === "token") demandBearer(`${registry.origin}/token`);
      registry.on("GET", path, ({ response }) => {
        response.writeHead(200, { "content-type": mediaTypes.manifest });
        const more = (): void => {
          while (!response.destroyed && response.write(Buffer.alloc(65_536, 32)));
        };
        response.on("drain", more);
        more();
      });
      await fails(use(open()), "ERR_CONTENT_TOO_LARGE");
    });

    it("sends an error text without end", async () => {
      registry.on("GET", /manifests/, ({ response }) => {
        response.writeHead(400, { "content-type": "text/plain" });
        const more = (): void => {
          while (!response.destroyed && response.write(Buffer.alloc(65_536, 97)));
        };
        response.on("drain", more);
        more();
      });
      const error = await fails(open().resolve("1"), "ERR_REGISTRY_REFUSED");
      expect(error.message.length).toBeLessThan(500);
    });

    it("sends headers without end", async () => {
      registry.on("GET", /manifests/, answer(200, { "x-long": "a".repeat(80_000) }));
      await fails(open().resolve("1"), "ERR_REGISTRY_PROTOCOL");
    });

    it("never answers", async () => {
      const impatient = new RegistryTransport({ retry: { attempts: 1 }, timeouts: { headersMs: 50, documentMs: 100 } });
      registry.on("GET", /manifests/, () => undefined);
      await fails(open({ transport: impatient }).resolve("1"), "ERR_REGISTRY_TIMEOUT");
      await impatient.close();
    });

    it("answers byte by byte, never silent, never done", async () => {
      const impatient = new RegistryTransport({ retry: { attempts: 1 }, timeouts: { documentMs: 150 } });
      registry.on("GET", /manifests/, ({ response }) => {
        response.writeHead(200, { "content-type": mediaTypes.manifest });
        const timer = setInterval(() => response.write(" "), 10);
        response.once("close", () => clearInterval(timer));
      });
      await fails(open({ transport: impatient }).resolve("1"), "ERR_REGISTRY_TIMEOUT");
      await impatient.close();
    });

    it("lets a blob drip", async () => {
      const blob = randomBlob(10_000);
      const impatient = new RegistryTransport({ retry: { attempts: 1 }, timeouts: { stallMs: 100, minBytesPerSecond: 1000 } });
      registry.on("GET", /blobs/, ({ response }) => {
        response.writeHead(200, { "content-length": blob.bytes.length });
        let at = 0;
        const timer = setInterval(() => response.write(blob.bytes.subarray(at, (at += 1))), 10);
        response.once("close", () => clearInterval(timer));
      });
      await fails(open({ transport: impatient }).fetch(blob.descriptor).then(readAll), "ERR_REGISTRY_TIMEOUT");
      await impatient.close();
    });

    it("stops taking an upload", async () => {
      const impatient = new RegistryTransport({ retry: { attempts: 1 }, timeouts: { headersMs: 100 } });
      registry.on("PUT", /uploads/, ({ request }) => void request.pause());
      const blob = randomBlob(16_000_000);
      await fails(open({ transport: impatient }).push(blob.descriptor, blob.source), "ERR_REGISTRY_TIMEOUT");
      await impatient.close();
    });
  });

  describe("that lies about content", () => {
    const html = answer(200, { "content-type": "text/html; charset=utf-8" }, "<html>welcome to the hotel wifi</html>");

    it("answers every request with a web page: nothing is called a success", async () => {
      registry.on("*", /./, html);
      const store = open();
      const blob = randomBlob(300_000);
      await fails(store.push(blob.descriptor, blob.source), "ERR_REGISTRY_PROTOCOL");
      await fails(store.push(image.descriptor, image.source), "ERR_REGISTRY_PROTOCOL");
      await fails(store.ingest(streamOf(blob.bytes), { size: blob.bytes.length }), "ERR_REGISTRY_PROTOCOL");
      await fails(store.resolve("1"), "ERR_REGISTRY_PROTOCOL");
      await fails(store.fetch(blob.descriptor), "ERR_REGISTRY_PROTOCOL");
      await fails(store.tags(), "ERR_JSON_MALFORMED");
      await fails(store.referrers(image.descriptor), "ERR_REGISTRY_PROTOCOL");
      await fails(store.remove(image.descriptor), "ERR_REGISTRY_PROTOCOL");
      expect(await store.exists(blob.descriptor)).toBe(false);
      expect(await store.exists(image.descriptor)).toBe(false);
    });

    it("sends a manifest whose type is another than its header's", async () => {
      const index = contentOf(serializeJson({ schemaVersion: 2, mediaType: mediaTypes.index, manifests: [] }), mediaTypes.index);
      registry.on("GET", /manifests/, answer(200, { "content-type": mediaTypes.manifest }, index.bytes.toString()));
      await fails(open().resolve("1"), "ERR_MANIFEST_MALFORMED");
    });

    it("sends a manifest that is both image and index", async () => {
      const both = serializeJson({ schemaVersion: 2, config: emptyConfig.descriptor, layers: [], manifests: [] });
      for (const type of [mediaTypes.manifest, mediaTypes.index]) {
        registry.on("GET", /manifests/, answer(200, { "content-type": type }, both.toString()), 1);
        await fails(open().resolve("1"), "ERR_MANIFEST_MALFORMED");
      }
    });

    it("sends a manifest with a member twice", async () => {
      const twice = image.bytes.toString().replace('"layers":[]', '"layers":[],"layers":[]');
      registry.on("GET", /manifests/, answer(200, { "content-type": mediaTypes.manifest }, twice));
      await fails(open().resolve("1"), "ERR_JSON_MALFORMED");
    });

    it("serves a schema 1 manifest: refused with the way out", async () => {
      registry.on("GET", /manifests/, answer(200, { "content-type": "application/vnd.docker.distribution.manifest.v1+prettyjws" }, "{}"));
      const error = await fails(open().resolve("1"), "ERR_MANIFEST_UNSUPPORTED");
      expect(error.hint).toContain("push the image again");
    });

    it("sends another manifest than was asked for", async () => {
      const other = manifestOf(emptyConfig, [emptyConfig]);
      registry.on("GET", /manifests/, answer(200, { "content-type": mediaTypes.manifest }, other.bytes.toString()));
      await fails(open().fetch(image.descriptor), "ERR_CONTENT_DIGEST_MISMATCH");
      await fails(open().resolve(image.descriptor.digest), "ERR_CONTENT_DIGEST_MISMATCH");
    });

    it("sends a manifest whose header names another digest", async () => {
      const headers = { "content-type": mediaTypes.manifest, "docker-content-digest": `sha256:${"1".repeat(64)}` };
      registry.on("GET", /manifests/, answer(200, headers, image.bytes.toString()));
      await fails(open().resolve("1"), "ERR_CONTENT_DIGEST_MISMATCH");
    });

    it("says two things in one header", async () => {
      registry.on("POST", /uploads/, answer(202, { location: ["/v2/victim/app/blobs/uploads/1", "/v2/victim/app/blobs/uploads/2"] }));
      const blob = randomBlob(10);
      await fails(open().push(blob.descriptor, blob.source), "ERR_REGISTRY_PROTOCOL");
    });

    it("stores a manifest under another digest", async () => {
      registry.on("PUT", /manifests/, answer(201, { "docker-content-digest": `sha256:${"1".repeat(64)}` }));
      await fails(open().push(image.descriptor, image.source), "ERR_REGISTRY_PROTOCOL");
    });

    it("compresses what it sends, unasked", async () => {
      const blob = randomBlob(100);
      registry.on("GET", /./, answer(200, { "content-encoding": "gzip", "content-type": mediaTypes.manifest }, "x".repeat(100)));
      await fails(open().fetch(blob.descriptor), "ERR_REGISTRY_PROTOCOL");
      await fails(open().resolve("1"), "ERR_REGISTRY_PROTOCOL");
    });

    it("flips a bit of a blob", async () => {
      const blob = randomBlob(200_000);
      const flipped = Buffer.from(blob.bytes);
      flipped.writeUInt8(flipped.readUInt8(150_000) ^ 1, 150_000);
      registry.blobs.set(blob.descriptor.digest, flipped);
      await fails(open().fetch(blob.descriptor).then(readAll), "ERR_CONTENT_DIGEST_MISMATCH");
    });

    it("announces another size than the descriptor", async () => {
      const blob = randomBlob(1000);
      registry.seed(blob);
      await fails(open().fetch({ ...blob.descriptor, size: 999 }), "ERR_REGISTRY_PROTOCOL");
      await fails(open().fetch({ ...blob.descriptor, size: 1001 }), "ERR_REGISTRY_PROTOCOL");
      expect(await open().exists({ ...blob.descriptor, size: 999 })).toBe(false);
    });

    it("goes on after the end of a blob whose length it did not announce", async () => {
      const blob = randomBlob(1000);
      registry.on("GET", /blobs/, ({ response }) => void response.writeHead(200).end(Buffer.concat([blob.bytes, Buffer.from("x")])));
      await fails(open().fetch(blob.descriptor).then(readAll), "ERR_CONTENT_TRAILING_DATA");
    });

    it.each([
      ["starts elsewhere", "bytes 0-999/1000"],
      ["has another total", "bytes 500-999/2000"],
      ["ends beyond what was asked for", "bytes 500-1000/1001"],
      ["is no range", "bytes */1000"],
    ])("answers a resumed download with a range that %s", async (_, contentRange) => {
      const blob = randomBlob(1000);
      registry.on("GET", /blobs/, answer(206, { "content-range": contentRange }, "x".repeat(500)));
      registry.on(
        "GET",
        /blobs/,
        ({ response, request }) => {
          response.writeHead(200, { "content-length": 1000 });
          response.write(blob.bytes.subarray(0, 500), () => request.socket.destroy());
        },
        1,
      );
      await fails(open().fetch(blob.descriptor).then(readAll), "ERR_REGISTRY_PROTOCOL");
    });

    it("lists a referrer that refers to something else", async () => {
      const other = manifestOf(emptyConfig, [emptyConfig]);
      const stray = referrerOf(other.descriptor, "stray");
      registry.seed(stray);
      const index = contentOf(
        serializeJson({ schemaVersion: 2, mediaType: mediaTypes.index, manifests: [stray.descriptor] }),
        mediaTypes.index,
      );
      registry.seed(index, `sha256-${image.descriptor.digest.slice(7)}`);
      expect(await open().referrers(image.descriptor)).toEqual([]);
    });

    it("cannot list referrers: an error, never an empty list", async () => {
      registry.on("GET", /referrers/, answer(500));
      await fails(open().referrers(image.descriptor), "ERR_REGISTRY_UNAVAILABLE");
    });

    it("answers the referrers tag with the subject itself, as GitLab does: the subject is not overwritten", async () => {
      const tag = `sha256-${image.descriptor.digest.slice(7)}`;
      registry.seed(image, tag);
      const referrer = referrerOf(image.descriptor, "one");
      expect(await open().referrers(image.descriptor)).toEqual([]);
      await fails(open().push(referrer.descriptor, referrer.source), "ERR_REGISTRY_UNSUPPORTED");
      expect(registry.count("PUT", /manifests\/sha256-/)).toBe(0);
    });
  });

  describe("and what is printed", () => {
    it("hides presigned queries, session state and tokens of error texts", async () => {
      secrets.add("topsecretstate");
      registry.on("POST", /uploads/, answer(202, { location: "/v2/victim/app/blobs/uploads/1?_state=topsecretstate" }));
      registry.on(
        "PUT",
        /uploads/,
        answer(
          400,
          { "content-type": "application/json" },
          JSON.stringify({
            errors: [
              {
                code: "BLOB_UPLOAD_INVALID",
                message: "bad https://user:topsecretstate@h/x?_state=topsecretstate and Bearer topsecretstate",
              },
            ],
          }),
        ),
      );
      const blob = randomBlob(10);
      await fails(open().push(blob.descriptor, blob.source), "ERR_REGISTRY_REFUSED");
    });

    it("repeats our password and token in its own words: neither is shown", async () => {
      demandBearer(`${registry.origin}/token`);
      registry.on("GET", /^\/token/, answer(200, {}, '{"token":"issued-t0ken"}'));
      const said = `nobody called ${username} with ${password} or issued-t0ken may do that`;
      registry.on("*", /^\/v2\//, (context) =>
        context.request.headers.authorization === undefined
          ? answer(401, { "www-authenticate": `Bearer realm="${registry.origin}/token"` })(context)
          : answer(403, { warning: `299 - "${said}"` }, JSON.stringify({ errors: [{ code: "DENIED", message: said }] }))(context),
      );
      const error = await fails(open().resolve("1"), "ERR_REGISTRY_FORBIDDEN");
      expect(error.message).toContain(`nobody called ${username} with … or … may do that`);
      expect(JSON.stringify([error, error.message, notices])).not.toMatch(new RegExp(`${password}|issued-t0ken`));
    });

    it("takes control characters out of foreign text, and tells a warning once", async () => {
      registry.seed(image, "1");
      registry.on("GET", /manifests/, async (context) => {
        context.response.setHeader("warning", '299 - "pull \\"slowly\\" please"');
        await context.pass();
      });
      await open().resolve("1");
      await open().resolve("1");
      expect(notices).toEqual([{ kind: "warning", host: registry.host, text: 'pull "slowly" please' }]);
      registry.on("GET", /manifests/, answer(400, {}, "\u001b[2Jgone\u202e"));
      const error = await fails(open().resolve("1"), "ERR_REGISTRY_REFUSED");
      // eslint-disable-next-line no-control-regex
      expect(error.message).not.toMatch(/[\u0000-\u001f\u202e]/);
    });
  });

  describe("on TLS", () => {
    let secure: FaultServer;
    let trusting: RegistryTransport;
    beforeEach(async () => {
      secure = await startFaultServer({ key: serverKey, cert: serverCertificate });
      trusting = new RegistryTransport({ ...fast, ca: [caCertificate] });
    });
    afterEach(async () => {
      await trusting.close();
      await secure.close();
    });
    const openSecure = (host: string) =>
      open({ host, transport: trusting, credentials: credentialsFor(host, { kind: "basic", username, password }) });

    it("redirects to plain HTTP: refused", async () => {
      secure.on("GET", /manifests/, answer(307, { location: `${foreign.origin}/x` }));
      await fails(openSecure(secure.host).resolve("1"), "ERR_REGISTRY_REDIRECT_REFUSED");
      expect(foreign.requests).toEqual([]);
    });

    it("names a token service on plain HTTP: refused", async () => {
      secure.on("GET", /manifests/, answer(401, { "www-authenticate": `Bearer realm="${foreign.origin}/token"` }));
      await fails(openSecure(secure.host).resolve("1"), "ERR_REGISTRY_REALM_REFUSED");
      expect(foreign.requests).toEqual([]);
    });

    it("names itself http:// in an upload location, as behind some proxies: spoken to over TLS all the same", async () => {
      const blob = randomBlob(10);
      secure.on("POST", /uploads/, async ({ response, pass }) => {
        const writeHead = response.writeHead.bind(response);
        response.writeHead = ((status: number, headers: Record<string, string>) =>
          writeHead(status, { ...headers, location: `http://${secure.host}${headers["location"]}` })) as typeof response.writeHead;
        await pass();
      });
      expect(await openSecure(secure.host).push(blob.descriptor, blob.source)).toBe("pushed");
    });

    it("shows a certificate that nobody vouches for: refused before anything is sent", async () => {
      await fails(
        openSecure(secure.host)
          .exists(image.descriptor)
          .then(() => open({ host: secure.host }).resolve("1")),
        "ERR_REGISTRY_TLS",
      );
    });
  });
});
