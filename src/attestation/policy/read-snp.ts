import { amdProducts, productRows, tcbComponents, type AmdProduct, type AmdTcb } from "../amd/products.ts";
import {
  flag,
  malformed,
  optional,
  readConstraint,
  readDigest,
  readHex,
  readNumber,
  readObject,
  readText,
  readUnchecked,
  readWord,
  type PolicyObject,
} from "./read.ts";
import type { PerProduct, SnpRules } from "./schema.ts";

const snpMembers = [
  "products",
  "signer",
  "cspId",
  "minTcb",
  "minLaunchTcb",
  "minCommittedTcb",
  "provisionalFirmware",
  "minAbi",
  "minBuild",
  "vmpl",
  "minGuestSvn",
  "familyId",
  "imageId",
  "idKeyDigest",
  "authorKeyDigest",
  "measurement",
  "hostData",
  "reportId",
  "guestPolicy",
  "platform",
  "mitigations",
  "allowMaskedChipId",
];

/** Reads the member `snp`. What is left out takes the safe default: VMPL 0, no debug, no migration agent, no masked chip. */
export function readSnpRules(value: unknown, path: string): SnpRules {
  const rules = readObject(value, path, snpMembers);
  return {
    products: optional(rules, "products", readConstraint(readWord(amdProducts))),
    signer: optional(rules, "signer", readConstraint(readWord(["VCEK", "VLEK"] as const))),
    cspId: optional(rules, "cspId", readConstraint(readText)),
    minTcb: optional(rules, "minTcb", (item, at) => readUnchecked(item, at) ?? readTcbs(item, at)),
    minLaunchTcb: optional(rules, "minLaunchTcb", readTcbs),
    minCommittedTcb: optional(rules, "minCommittedTcb", readTcbs),
    provisionalFirmware: flag(rules, "provisionalFirmware", true),
    minAbi: optional(rules, "minAbi", readAbi),
    minBuild: optional(rules, "minBuild", readNumber(255)),
    vmpl: optional(rules, "vmpl", readConstraint(readNumber(3))) ?? { kind: "one-of", values: [0] },
    minGuestSvn: optional(rules, "minGuestSvn", readNumber(0xff_ff_ff_ff)),
    familyId: optional(rules, "familyId", readConstraint(readHex(16))),
    imageId: optional(rules, "imageId", readConstraint(readHex(16))),
    idKeyDigest: optional(rules, "idKeyDigest", readConstraint(readDigest(48))),
    authorKeyDigest: optional(rules, "authorKeyDigest", readConstraint(readDigest(48))),
    measurement: optional(rules, "measurement", readConstraint(readDigest(48))),
    hostData: optional(rules, "hostData", readConstraint(readDigest(32))),
    reportId: optional(rules, "reportId", readConstraint(readHex(32))),
    guestPolicy: readGuestPolicy(rules),
    platform: readPlatform(rules),
    mitigations: optional(rules, "mitigations", readMitigations),
    allowMaskedChipId: flag(rules, "allowMaskedChipId", false),
    requireSecureBoot: false,
  };
}

function readGuestPolicy(rules: PolicyObject): SnpRules["guestPolicy"] {
  const object = optional(rules, "guestPolicy", (value, path) =>
    readObject(value, path, ["allowDebug", "allowMigrationAgent", "allowSmt", "requireSingleSocket", "requireCiphertextHiding"]),
  );
  const read = (name: string, otherwise: boolean) => (object === undefined ? otherwise : flag(object, name, otherwise));
  return {
    allowDebug: read("allowDebug", false),
    allowMigrationAgent: read("allowMigrationAgent", false),
    allowSmt: read("allowSmt", true),
    requireSingleSocket: read("requireSingleSocket", false),
    requireCiphertextHiding: read("requireCiphertextHiding", false),
  };
}

function readPlatform(rules: PolicyObject): SnpRules["platform"] {
  const object = optional(rules, "platform", (value, path) =>
    readObject(value, path, ["requireAliasCheck", "requireEcc", "allowSmt", "requireTsme"]),
  );
  const read = (name: string, otherwise: boolean) => (object === undefined ? otherwise : flag(object, name, otherwise));
  return {
    requireAliasCheck: read("requireAliasCheck", false),
    requireEcc: read("requireEcc", false),
    allowSmt: read("allowSmt", true),
    requireTsme: read("requireTsme", false),
  };
}

/** Minimums per product. FMC is only known to products that have it. */
export function readTcbs(value: unknown, path: string): PerProduct<Partial<AmdTcb>> {
  const object = readObject(value, path, amdProducts);
  return Object.fromEntries(
    amdProducts.flatMap((product): readonly (readonly [AmdProduct, Partial<AmdTcb>])[] => {
      const tcb = optional(object, product, (item, at) => readTcb(item, at, product));
      return tcb === undefined ? [] : [[product, tcb]];
    }),
  );
}

function readTcb(value: unknown, path: string, product: AmdProduct): Partial<AmdTcb> {
  const known = tcbComponents.filter((name) => productRows[product].tcb[name] !== undefined);
  const object = readObject(value, path, known);
  return Object.fromEntries(
    known.flatMap((name) => {
      const minimum = optional(object, name, readNumber(255));
      return minimum === undefined ? [] : [[name, minimum]];
    }),
  );
}

function readAbi(value: unknown, path: string): { readonly major: number; readonly minor: number } {
  const [, major, minor] = /^(\d{1,3})\.(\d{1,3})$/.exec(readText(value, path)) ?? [];
  if (major === undefined || minor === undefined) throw malformed(path, "is not a version such as 1.55");
  return { major: Number(major), minor: Number(minor) };
}

function readMitigations(value: unknown, path: string): { readonly launch: bigint; readonly current: bigint } {
  const object = readObject(value, path, ["launch", "current"]);
  const read = (name: string) =>
    optional(object, name, (item, at) => {
      const text = readText(item, at);
      if (!/^0x[0-9a-fA-F]{1,16}$/.test(text)) throw malformed(at, "is not a bit vector such as 0x1");
      return BigInt(text);
    }) ?? 0n;
  return { launch: read("launch"), current: read("current") };
}
