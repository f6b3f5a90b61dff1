import { join } from "node:path";
import { programPath } from "./files.ts";
import { findingsOf, type Examination } from "./finding.ts";
import { readToml, tableOf, textsOf } from "./toml.ts";

const printFix = "print what has to stand there with: ociseal doctor containerd";

/** containerd's configuration: a stream processor for encrypted layers whose program is there. Source: containerd docs, cri/decryption.md. */
export const examineContainerd: Examination = async ({ root, shell, asked }) => {
  const { list, add } = findingsOf("containerd");
  const path = join(root, "etc/containerd/config.toml");
  const config = await readToml(add, path);
  if (config === undefined) {
    if (list.length === 0) add(asked ? "fail" : "not-checked", "configuration", `${path} is not there`, printFix);
    return list;
  }
  const processors = Object.entries(tableOf(config["stream_processors"]))
    .map(([name, value]) => ({ name, value: tableOf(value) }))
    .filter(({ value }) => textsOf(value["accepts"]).some((type) => type.endsWith("+encrypted")));
  if (processors.length === 0) {
    const drops = textsOf(config["imports"]);
    const elsewhere = drops.length === 0 ? "" : `; ${drops.join(", ")} may hold one and is not read here`;
    add(drops.length === 0 ? "fail" : "warn", "stream processor", `none takes encrypted layers${elsewhere}`, printFix);
  }
  for (const { name, value } of processors) {
    const program = typeof value["path"] === "string" ? value["path"] : "";
    if ((await programPath(program, shell.env, root)) === undefined)
      add("fail", name, `${program === "" ? "no program" : program} cannot be run`, "correct path, or install the program");
    else add("ok", name, `${program} takes encrypted layers`);
  }
  return list;
};
