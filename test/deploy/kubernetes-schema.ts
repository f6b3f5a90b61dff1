import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";

const root = resolve(import.meta.dirname, "../..");

export interface KubernetesObject {
  readonly apiVersion: string;
  readonly kind: string;
}

interface Model {
  validate(): void;
}

/** Throws where a member has a wrong type or is missing, by the API server's own OpenAPI schema. */
export async function validate(object: KubernetesObject): Promise<void> {
  const models = (await import(/* @vite-ignore */ `kubernetes-models/${object.apiVersion}`)) as Readonly<
    Record<string, new (from: object) => Model>
  >;
  const Kind = models[object.kind];
  if (Kind === undefined) throw new Error(`there is no ${object.kind} in ${object.apiVersion}`);
  new Kind(object).validate();
}

/** What the compiler says of the objects as literals of their types: the members that a schema without `additionalProperties` lets pass. */
export function complaints(list: readonly KubernetesObject[]): readonly string[] {
  // Below node_modules, so that the types are found and no other check sees the file.
  const folder = mkdtempSync(join(root, "node_modules/.kubernetes-"));
  try {
    const lines = list.map(
      (object, i) =>
        `export const object${i}: import("kubernetes-models/${object.apiVersion}").I${object.kind} = ${JSON.stringify(object)};`,
    );
    writeFileSync(join(folder, "objects.ts"), `${lines.join("\n")}\n`);
    const flags = ["--noEmit", "--strict", "--skipLibCheck", "--module", "nodenext", "--ignoreConfig", join(folder, "objects.ts")];
    const result = spawnSync(process.execPath, [join(root, "node_modules/typescript/bin/tsc"), ...flags], { encoding: "utf8", cwd: root });
    return result.stdout.split("\n").filter((line) => line !== "");
  } finally {
    rmSync(folder, { recursive: true });
  }
}
