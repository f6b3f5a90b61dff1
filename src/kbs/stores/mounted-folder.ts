import { readdir, readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { describeCause } from "../../errors/index.ts";
import { KbsError } from "../errors.ts";
import { formatResourcePath, parseResourcePath, type ResourcePath } from "../protocol/resource-path.ts";

/** Resources that somebody else keeps: read only, values in the clear, always version 1. */
export interface ResourceSource {
  readonly name: string;
  read(path: ResourcePath): Promise<Buffer | undefined>;
  /** Paths below a prefix of whole segments. */
  list(prefix: string): Promise<readonly string[]>;
}

const maxValueBytes = 2 << 20;

/**
 * A folder `repository/type/tag` of plain files, such as Secrets mounted into a pod (one volume per `repository/type`).
 *
 * Names that begin with a dot are passed over: Kubernetes keeps its generations under such names and switches them by a
 * symbolic link, so each read sees one whole generation.
 */
export function mountedFolder(folder: string): ResourceSource {
  return {
    name: `folder ${folder}`,
    read: (path) => readFileOf(join(folder, path.repository, path.type, path.tag), formatResourcePath(path)),
    list: async (prefix) => {
      const paths: string[] = [];
      for (const repository of await names(folder)) {
        for (const type of await names(join(folder, repository))) {
          for (const tag of await names(join(folder, repository, type))) paths.push(`${repository}/${type}/${tag}`);
        }
      }
      return paths.filter((path) => isResource(path) && (prefix === "" || path === prefix || path.startsWith(`${prefix}/`)));
    },
  };
}

async function readFileOf(file: string, name: string): Promise<Buffer | undefined> {
  try {
    const { size } = await stat(file);
    if (size > maxValueBytes)
      throw new KbsError("ERR_KBS_STORE_FAILED", { message: `the file of ${name} has more than ${maxValueBytes} bytes` });
    return await readFile(file);
  } catch (cause) {
    if (cause instanceof KbsError) throw cause;
    if (["ENOENT", "ENOTDIR", "EISDIR"].includes(String((cause as NodeJS.ErrnoException).code))) return undefined;
    throw new KbsError("ERR_KBS_STORE_FAILED", { message: `the file of ${name} cannot be read: ${describeCause(cause)}`, cause });
  }
}

async function names(folder: string): Promise<readonly string[]> {
  try {
    return (await readdir(folder)).filter((name) => !name.startsWith("."));
  } catch (cause) {
    if (["ENOENT", "ENOTDIR"].includes(String((cause as NodeJS.ErrnoException).code))) return [];
    throw new KbsError("ERR_KBS_STORE_FAILED", { message: `the folder ${folder} cannot be read: ${describeCause(cause)}`, cause });
  }
}

function isResource(path: string): boolean {
  try {
    parseResourcePath(path);
    return true;
  } catch {
    // A file that no guest could ask for.
    return false;
  }
}
