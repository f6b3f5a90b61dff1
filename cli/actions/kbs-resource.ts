import { formatResourcePath, parseResourceUri, type KbsAdmin } from "../../src/kbs/index.ts";
import type { Action } from "../command.ts";
import { usage } from "../errors.ts";
import { readSmallFile } from "../files.ts";
import { notFound, withAdmin, type KbsOptions } from "../kbs-connection.ts";
import { requireNumber } from "../images.ts";

type PutOptions = KbsOptions & { readonly ifAbsent?: boolean; readonly dryRun?: boolean };

export const resourcePut: Action<PutOptions> = async (shell, [uri = "", file = ""], options) => {
  const value = await readSmallFile(file, "resource", 2 << 20);
  if (options.dryRun === true) {
    const exists = await withAdmin(shell, options, (admin) => isThere(admin, uri, shell.signal));
    if (exists && options.ifAbsent === true) throw existsAlready(uri);
    const what = exists ? "a new version of" : "";
    return shell.result(`would store ${value.length} bytes as ${what}${what === "" ? "" : " "}${uri}`, { uri, exists, dryRun: true });
  }
  const outcome = await withAdmin(shell, options, async (admin) => {
    const put = await admin.putResource(uri, value, { condition: options.ifAbsent === true ? "absent" : "any", signal: shell.signal });
    if (put === "present") throw existsAlready(uri);
    return { outcome: put, proof: await admin.proveResource(uri, value, { signal: shell.signal }) };
  });
  await shell.result(`${uri}: ${outcome.outcome} (${outcome.proof})`, { uri, ...outcome });
};

export const resourceGet: Action<KbsOptions> = async (shell, [uri = ""], options) => {
  const value = await withAdmin(shell, options, (admin) => admin.getResource(uri, { signal: shell.signal }));
  if (shell.json) await shell.result("", { uri, value: value.toString("base64") });
  else await new Promise<void>((resolve, reject) => shell.stdout.write(value, (error) => (error ? reject(error) : resolve())));
};

export const resourceList: Action<KbsOptions & { readonly prefix?: string; readonly limit?: number }> = async (shell, _args, options) => {
  requireNumber("--limit", options.limit, 1);
  const resources = await withAdmin(shell, options, async (admin) => {
    const all: string[] = [];
    let after: string | undefined;
    do {
      const page = await admin.listResources({ prefix: options.prefix, after, signal: shell.signal });
      all.push(...page.resources);
      after = page.next;
    } while (after !== undefined && (options.limit === undefined || all.length < options.limit));
    return all.slice(0, options.limit ?? all.length);
  });
  await shell.result(resources.map((path) => `kbs:///${path}`).join("\n"), { resources: resources.map((path) => `kbs:///${path}`) });
};

export const resourceDelete: Action<KbsOptions & { readonly dryRun?: boolean }> = async (shell, [uri = ""], options) => {
  await withAdmin(shell, options, async (admin) => {
    if (options.dryRun !== true) await admin.deleteResource(uri, { signal: shell.signal });
    else if (!(await isThere(admin, uri, shell.signal)))
      throw notFound(`no resource ${uri}`, "ociseal kbs resource list shows what there is");
  });
  await shell.result(options.dryRun === true ? `would delete ${uri}` : `deleted ${uri}`, {
    uri,
    deleted: options.dryRun !== true,
    dryRun: options.dryRun === true,
  });
};

/** Whether a resource exists; its value is not asked for. */
async function isThere(admin: KbsAdmin, uri: string, signal: AbortSignal): Promise<boolean> {
  const path = formatResourcePath(parseResourceUri(uri));
  let after: string | undefined;
  do {
    const page = await admin.listResources({ prefix: path.split("/").slice(0, 2).join("/"), after, signal });
    if (page.resources.includes(path)) return true;
    after = page.next;
  } while (after !== undefined);
  return false;
}

function existsAlready(uri: string): Error {
  return usage(`${uri} exists already`, "leave --if-absent away to store a new version");
}
