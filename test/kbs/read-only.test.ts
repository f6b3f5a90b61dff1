import { expect, it } from "vitest";
import { KbsError } from "../../src/kbs/errors.ts";
import { openMemoryStore } from "../../src/kbs/index.ts";
import { raw, startBench } from "./harness.ts";

it("a store that cannot be written is said to be read-only, and what it holds is still released", async () => {
  const store = openMemoryStore();
  const state = { mounted: "read-write" };
  const bench = await startBench({
    store: new Proxy(store, {
      get(target, name) {
        if (name === "write" && state.mounted === "read-only")
          return () => Promise.reject(new KbsError("ERR_KBS_STORE_READ_ONLY", { message: "the volume is mounted read-only" }));
        const member: unknown = Reflect.get(target, name);
        return typeof member === "function" ? member.bind(target) : member;
      },
    }),
  });
  await bench.admin.putResource("kbs:///default/key/1", Buffer.from("the value"));
  state.mounted = "read-only";
  const headers = { authorization: `Bearer ${bench.server.adminToken ?? ""}` };
  const answer = await raw(`${bench.server.url}/kbs/v0/resource/default/key/2`, { method: "POST", body: Buffer.from("other"), headers });
  expect(answer.json["code"]).toBe("read-only");
  await expect(bench.admin.putResource("kbs:///default/key/2", Buffer.from("other"))).rejects.toThrow("read-only");
  expect(Buffer.from(await bench.guest.fetchResource("kbs:///default/key/1")).toString()).toBe("the value");
  await bench.close();
});
