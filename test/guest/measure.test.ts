import { createServer, type Server } from "node:http";
import { once } from "node:events";
import { readdirSync } from "node:fs";
import { text } from "node:stream/consumers";
import { afterEach, describe, expect, it } from "vitest";
import { agentMeasurementSink, pullImage } from "../../src/guest/index.ts";
import { image, sign, signer, testFolder } from "./images.ts";
import { tar } from "./tar-bytes.ts";

const folder = testFolder();
let server: Server | undefined;
afterEach(() => server?.close());

async function agent(status: number): Promise<{ readonly url: string; readonly seen: unknown[] }> {
  const seen: unknown[] = [];
  server = createServer((request, response) => {
    void text(request).then((body) => {
      seen.push({ method: request.method, url: request.url, body: JSON.parse(body) as unknown });
      response.writeHead(status, status === 302 ? { location: "http://127.0.0.1:1/" } : {}).end("{}");
    });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("no port");
  return { url: `http://127.0.0.1:${address.port}`, seen };
}

async function pull(url: string) {
  const { store, root } = await image({ layers: [tar({ name: "a" })] });
  const key = await signer();
  await sign(store, root, key);
  return await pullImage({
    store,
    reference: "latest",
    name: "registry.example/app:latest",
    target: folder.path("out"),
    output: "rootfs",
    verification: { kind: "signature", requirement: { kind: "keys", keys: [key.publicKey], log: "ignore" } },
    openKeys: async () => [],
    measure: agentMeasurementSink({ url }),
  });
}

describe("measuring a pull", () => {
  it("sends the event that CoCo's own guests send, before the target is there", async () => {
    const { url, seen } = await agent(200);
    const report = await pull(url);
    expect(report.measurement).toBe("measured");
    expect(seen).toEqual([
      {
        method: "POST",
        url: "/aa/aael",
        body: {
          domain: "github.com/confidential-containers",
          operation: "PullImage",
          content: JSON.stringify({ image: "registry.example/app:latest", digest: report.image.manifest.digest }),
        },
      },
    ]);
  });

  it.each([302, 400, 404, 500])("fails the pull when the agent answers %i, and leaves nothing", async (status) => {
    const { url } = await agent(status);
    await expect(pull(url)).rejects.toMatchObject({ code: "ERR_GUEST_MEASUREMENT", category: "attestation" });
    expect(readdirSync(folder.path())).toEqual([]);
  });

  it.each(["https://127.0.0.1:8006", "http://agent.example", "http://10.0.0.1:8006", "http://127.0.0.1.evil.example", "nonsense"])(
    "refuses the agent at %s",
    (url) => {
      expect(() => agentMeasurementSink({ url })).toThrow(/not HTTP on loopback/);
    },
  );
});
