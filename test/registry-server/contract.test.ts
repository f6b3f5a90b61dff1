import { openRegistry, RegistryTransport } from "../../src/registry/index.ts";
import { loadProfile, type ProfileName } from "../../registry-fixtures/index.ts";
import { describeStore, type StoreUnderTest } from "../store/contract.ts";
import { startRegistry, storageKinds, type StorageKind } from "./client.ts";

const fast = { retry: { attempts: 4, baseMs: 1, maxMs: 2, budgetMs: 3000 } };

async function open(kind: StorageKind, profile?: ProfileName): Promise<StoreUnderTest> {
  const registry = await startRegistry({ kind, ...(profile === undefined ? {} : { profile: await loadProfile(profile) }) });
  const transport = new RegistryTransport(fast);
  return {
    store: openRegistry({ host: registry.server.address, repository: "contract", transport }),
    end: async () => {
      await transport.close();
      await registry[Symbol.asyncDispose]();
    },
  };
}

for (const kind of storageKinds) describeStore(`our registry on ${kind} storage`, () => open(kind));
// Without deletion a store cannot keep its contract, so the products that refuse it are not here.
for (const profile of ["harbor", "acr"] as const) describeStore(`our registry as ${profile}`, () => open("memory", profile));
