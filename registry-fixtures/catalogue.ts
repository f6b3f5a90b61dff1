import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { parseFaultRules, parseVendorProfile, type FaultRule, type VendorProfile } from "../src/registry-server/index.ts";

const profileFolder = join(import.meta.dirname, "profiles");
const faultFolder = join(import.meta.dirname, "faults");

export type ProfileName =
  | "acr"
  | "docker-hub"
  | "docker-registry-2.8"
  | "ecr"
  | "ecr-immutable"
  | "ghcr"
  | "gitlab"
  | "harbor"
  | "lenient"
  | "quay"
  | "sparse";

/** A vendor profile of the folder `profiles`. */
export async function loadProfile(name: ProfileName): Promise<VendorProfile> {
  return parseVendorProfile(await readFile(join(profileFolder, `${name}.json`)), `profile ${name}`);
}

/** Names of all profiles, sorted. */
export async function profileNames(): Promise<readonly string[]> {
  return namesIn(profileFolder);
}

/** A script of fault rules of the folder `faults`. */
export async function loadFaults(name: string): Promise<readonly FaultRule[]> {
  return parseFaultRules(await readFile(join(faultFolder, `${name}.json`)), `faults ${name}`);
}

/** Names of all fault scripts, sorted. */
export async function faultNames(): Promise<readonly string[]> {
  return namesIn(faultFolder);
}

async function namesIn(folder: string): Promise<readonly string[]> {
  return (await readdir(folder))
    .filter((name) => name.endsWith(".json"))
    .map((name) => name.slice(0, -".json".length))
    .sort();
}
