// A process of its own: `node copier.ts FROM TO NAME` copies one image between layouts, says on standard output what
// ends, and kills itself with SIGKILL after as many blobs as the environment's KILL_AFTER says.
import { openLayout, copyGraph } from "../../src/store/index.ts";

const [source = "", destination = "", name = ""] = process.argv.slice(2);
const killAfter = Number(process.env["KILL_AFTER"] ?? "Infinity");
const from = await openLayout({ path: source, mode: "read" });
const to = await openLayout({ path: destination, mode: "write" });
let pushed = 0;
let moved = 0;
const summary = await copyGraph({
  from,
  to,
  root: await from.resolve(name),
  tags: [name],
  concurrency: 2,
  onProgress: (event) => {
    if (event.kind === "finished" && event.outcome === "pushed") pushed += 1;
    if (event.kind === "moved") moved += event.size;
    // In the middle of a blob, not between two.
    if (pushed >= killAfter && event.kind === "moved") process.kill(process.pid, "SIGKILL");
  },
});
await to.close();
process.stdout.write(JSON.stringify({ ...summary, moved }));
