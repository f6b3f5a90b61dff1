import { generateKeyPairSync } from "node:crypto";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { openRegistry } from "../../src/registry/index.ts";
import { loadPublicKey, verifyImage } from "../../src/signing/index.ts";
import { missingPeers } from "../peers.ts";
import { pushImage } from "./image.ts";
import { removeFolder, runProgram, startDockerRegistry, temporaryFolder, type RegistryProcess } from "./programs.ts";

describe.skipIf(missingPeers("docker-registry"))(
  "parallel signers on docker-registry 2.8, which has neither referrers nor conditional writes",
  () => {
    let registry: RegistryProcess;
    let folder: string;

    beforeAll(async () => {
      registry = await startDockerRegistry();
      folder = temporaryFolder();
    });

    afterAll(async () => {
      await registry.stop();
      removeFolder(folder);
    });

    // The timeout only ends a hang: 32 writers of one tag on a busy machine come one by one.
    it.each([
      { signers: 8, processes: 2, format: "both" },
      // Bundles are kept by the store; here they would double the time of a run at the desk.
      { signers: 32, processes: 4, format: process.env["CI"] === undefined ? "legacy" : "both" },
    ])("lose nothing: $signers signers in $processes processes", { timeout: 240_000 }, async ({ signers, processes, format }) => {
      const store = openRegistry({ host: registry.host, repository: `signers-${signers}` });
      const target = await pushImage(store, "v1");
      const keys = Array.from({ length: signers }, (_, i) => {
        const { privateKey, publicKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
        const file = join(folder, `${signers}-${i}.pem`);
        writeFileSync(file, privateKey.export({ format: "pem", type: "pkcs8" }));
        return { file, publicKey: loadPublicKey({ bytes: publicKey.export({ format: "der", type: "spki" }), source: file }) };
      });
      const script = fileURLToPath(new URL("./parallel-signer.ts", import.meta.url));
      const runs = await Promise.all(
        Array.from({ length: processes }, async (_, p) => {
          const files = keys.filter((__, i) => i % processes === p).map(({ file }) => file);
          return await runProgram(
            process.execPath,
            [script, registry.host, store.repository, target.digest, String(target.size), format, ...files],
            {},
          );
        }),
      );
      expect(runs.filter(({ code }) => code !== 0)).toEqual([]);
      const [first, ...more] = keys.map(({ publicKey }) => publicKey);
      if (first === undefined) throw new Error("no keys");
      const { signatures } = await verifyImage({ store, target, requirement: { kind: "keys", keys: [first, ...more], log: "ignore" } });
      const counted = signatures.map(({ format: found, signatory }) => `${found} ${signatory.kind === "key" ? signatory.fingerprint : ""}`);
      const written = format === "both" ? ["bundle", "legacy"] : ["legacy"];
      expect(counted.sort()).toEqual(
        [first, ...more].flatMap(({ fingerprint }) => written.map((found) => `${found} ${fingerprint}`)).sort(),
      );
      await store.close();
    });
  },
);
