import { openDirectoryStore } from "../../src/kbs/stores/directory-store.ts";

// Writes for ever, and says each write once it was acknowledged; the test kills it.
const store = await openDirectoryStore(process.argv[2] ?? "");
process.stdout.write("ready 0\n");
for (let i = 1; ; i += 1) {
  const key = `record/k${i % 3}`;
  await store.write(key, Buffer.from(`${i}:${"x".repeat(20_000)}`), { kind: "any" });
  process.stdout.write(`${key} ${i}\n`);
}
