/** After the job, also when it was cancelled: nothing of the run stays on the runner, its token above all. */
import { rmSync } from "node:fs";
import { basename } from "node:path";

const work = process.env["STATE_work"];
if (work !== undefined && basename(work).startsWith("ociseal-")) rmSync(work, { recursive: true, force: true });
