import { generateKeyPairSync } from "node:crypto";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
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

    it.each([
      { signers: 8, processes: 2 },
      { signers: 32, processes: 4 },
    ])("lose nothing: $signers signers in $processes processes", async ({ signers, processes }) => {
      const store = openRegistry({ host: registry.host, repository: `signers-${signers}` });
      const target = await pushImage(store, "v1");
      const keys = Array.from({ length: signers }, (_, i) => {
        const { privateKey, publicKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
        const file = join(folder, `${signers}-${i}.pem`);
        writeFileSync(file, privateKey.export({ format: "pem", type: "pkcs8" }));
        return { file, publicKey: loadPublicKey({ bytes: publicKey.export({ format: "der", type: "spki" }), source: file }) };
      });
      const script = join(import.meta.dirname, "parallel-signer.ts");
      const runs = await Promise.all(
        Array.from({ length: processes }, async (_, p) => {
          const files = keys.filter((__, i) => i % processes === p).map(({ file }) => file);
          return await runProgram(
            process.execPath,
            [script, registry.host, store.repository, target.digest, String(target.size), "both", ...files],
            {},
          );
        }),
      );
      expect(runs.filter(({ code }) => code !== 0)).toEqual([]);
      const [first, ...more] = keys.map(({ publicKey }) => publicKey);
      if (first === undefined) throw new Error("no keys");
      const { signatures } = await verifyImage({ store, target, requirement: { kind: "keys", keys: [first, ...more], log: "ignore" } });
      const counted = signatures.map(({ format, signatory }) => `${format} ${signatory.kind === "key" ? signatory.fingerprint : ""}`);
      expect(counted.sort()).toEqual(
        [first, ...more].flatMap(({ fingerprint }) => [`bundle ${fingerprint}`, `legacy ${fingerprint}`]).sort(),
      );
      await store.close();
    });
  },
);
