import { amdProducts } from "../amd/products.ts";
import type { CollateralBundle } from "./bundle.ts";

/** Joins bundles; of two items for the same thing the later bundle's wins. */
export function mergeBundles(first: CollateralBundle, ...rest: readonly CollateralBundle[]): CollateralBundle {
  return rest.reduce(mergeTwo, first);
}

function mergeTwo(left: CollateralBundle, right: CollateralBundle): CollateralBundle {
  return {
    createdAt: left.createdAt > right.createdAt ? left.createdAt : right.createdAt,
    rootCaCrl: right.rootCaCrl ?? left.rootCaCrl,
    pckCrls: mergeBy(left.pckCrls, right.pckCrls, ({ ca }) => ca),
    qeIdentity: { ...left.qeIdentity, ...right.qeIdentity },
    tcbInfos: mergeBy(left.tcbInfos, right.tcbInfos, ({ tee, fmspc, update }) => `${tee} ${fmspc} ${update ?? "standard"}`),
    pckCerts: mergeBy(left.pckCerts, right.pckCerts, ({ ppid, cpuSvn, pceSvn }) => `${ppid} ${cpuSvn} ${pceSvn}`),
    amd: Object.fromEntries(
      amdProducts.flatMap((product) => {
        const both = [left.amd[product], right.amd[product]];
        return both.every((items) => items === undefined) ? [] : [[product, { ...both[0], ...defined(both[1] ?? {}) }]];
      }),
    ),
    vceks: mergeBy(left.vceks, right.vceks, ({ product, hwid, tcb }) => `${product} ${hwid} ${tcb}`),
  };
}

function mergeBy<Item>(left: readonly Item[], right: readonly Item[], key: (item: Item) => string): readonly Item[] {
  return [...new Map([...left, ...right].map((item) => [key(item), item])).values()];
}

function defined<Value extends object>(value: Value): Partial<Value> {
  return Object.fromEntries(Object.entries(value).filter(([, member]) => member !== undefined)) as Partial<Value>;
}
