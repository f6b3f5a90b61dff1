import { generateKeyPairSync } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { SignJWT } from "jose";
import { expect, it } from "vitest";
import { openVaultStore } from "../../src/kbs/index.ts";
import { caCertificate } from "../registry/test-certificates.ts";
import { missingVault, startVault } from "../vault.ts";

it.skipIf(missingVault())(
  "logs in to a real Vault or OpenBao with a token of a CI job or cloud, and waits for a good one",
  async (context) => {
    const vault = await startVault();
    const folder = await mkdtemp(join(tmpdir(), "kbs-vault-logins-"));
    try {
      const enabled = await vault.call("POST", "sys/auth/jobs", { type: "jwt" });
      context.skip(enabled.status !== 204, "this server has no JWT login");
      const { privateKey, publicKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
      const keys = [publicKey.export({ format: "pem", type: "spki" }).toString()];
      const policy = `path "secret/data/ociseal-kbs/*" { capabilities = ["read", "update"] } path "secret/metadata/ociseal-kbs/*" { capabilities = ["create", "read", "update", "list", "delete"] }`;
      await vault.call("PUT", "sys/policies/acl/kbs", { policy });
      expect(await vault.call("POST", "auth/jobs/config", { jwt_validation_pubkeys: keys })).toMatchObject({ status: 204 });
      const role = { role_type: "jwt", bound_audiences: ["vault"], user_claim: "sub", token_policies: ["kbs"], token_ttl: "1h" };
      await vault.call("POST", "auth/jobs/role/kbs", role);
      const signed = (audience: string) =>
        new SignJWT({})
          .setProtectedHeader({ alg: "ES256" })
          .setSubject("kbs")
          .setAudience(audience)
          .setIssuedAt()
          .setExpirationTime("10m")
          .sign(privateKey);

      const jwtFile = join(folder, "jwt");
      await writeFile(jwtFile, await signed("elsewhere"));
      const login = { kind: "jwt", role: "kbs", jwtFile, mount: "jobs" } as const;
      const store = openVaultStore({ url: vault.url, authorities: caCertificate, login });
      await expect(store.read("a")).rejects.toMatchObject({
        code: "ERR_KBS_STORE_UNAVAILABLE",
        hint: expect.stringContaining("credentials"),
      });
      await writeFile(jwtFile, await signed("vault"));
      await store.write("a", Buffer.from("1"), { kind: "absent" });
      await vault.call("PUT", "sys/leases/revoke-prefix/auth/jobs");
      expect((await store.read("a"))?.bytes.toString()).toBe("1");
      await store.close();
    } finally {
      await vault.stop();
      await rm(folder, { recursive: true });
    }
  },
);
