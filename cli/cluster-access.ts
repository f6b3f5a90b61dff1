import { readFile } from "node:fs/promises";
import { join } from "node:path";
import type { KeyAccess } from "../src/signing/index.ts";
import type { Shell } from "./shell.ts";

/**
 * How a pod reaches the API of its cluster: the address from the environment, token and authorities from the folder that the kubelet
 * mounts. The token rotates, so it is read each time. `undefined` outside of a pod, and in one that is given no token.
 * Source: Kubernetes, "Accessing the Kubernetes API from a Pod".
 */
export async function clusterAccess(
  env: Shell["env"],
  folder = "/var/run/secrets/kubernetes.io/serviceaccount",
): Promise<KeyAccess["kubernetes"]> {
  const [host, port] = [env["KUBERNETES_SERVICE_HOST"], env["KUBERNETES_SERVICE_PORT"] ?? "443"];
  const token = host === undefined ? undefined : await fileIfThere(join(folder, "token"));
  if (host === undefined || token === undefined) return undefined;
  const authorities = await fileIfThere(join(folder, "ca.crt"));
  return {
    server: `https://${host.includes(":") ? `[${host}]` : host}:${port}`,
    token: token.trim(),
    ...(authorities === undefined ? {} : { authorities }),
  };
}

async function fileIfThere(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, "utf8");
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return undefined;
    throw error;
  }
}
