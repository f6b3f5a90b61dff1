import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { pullImage } from "../../src/guest/index.ts";
import { missingPeers } from "../peers.ts";
import { broker, image, sign, signer, testFolder } from "./images.ts";
import {
  busyboxLayers,
  busyboxProgram,
  changesOfDebian,
  debianRoot,
  layoutOf,
  missing,
  nodeLayers,
  podmanTree,
  umociTree,
} from "./real-images.ts";
import { missingRuntime, startedBy } from "./runtimes.ts";
import { differences, factsOf, unexplained, type Explained } from "./tree-facts.ts";
import { isRoot, missingSetfattr } from "./trees.ts";

const folder = testFolder();

interface RealImage {
  readonly name: string;
  readonly missing: () => boolean;
  readonly layers: () => readonly Buffer[];
  readonly args: readonly string[];
  readonly prints: RegExp;
  /** At least so many names, so that an empty tree is equal to nothing. */
  readonly atLeast: number;
  /** Where podman's tree is another, and why; umoci's must be the same without exception. */
  readonly podman: readonly Explained[];
}

/**
 * containers/storage sets the times of a directory when it meets its entry. What a later layer changes in it moves them
 * again; umoci and we give a directory the times of its last entry at the end of all layers.
 */
function touchedLater(...paths: readonly string[]): Explained {
  return { why: `times of ${paths.join(", ")}`, holds: ({ path, fact }) => fact === "mtime" && paths.includes(path) };
}

/**
 * A hard link's entry has a mode and times, and they are the file's own. containers/storage sets them on the file, umoci
 * and we take the file as its own entry made it: a link does not change what it links to.
 */
const linkAttributes: Explained = {
  why: "attributes in a hard link's entry",
  holds: ({ path, fact }) => ["./usr/bin/bash", "./usr/bin/also-bash"].includes(path) && ["mode", "mtime"].includes(fact),
};

const realImages: readonly RealImage[] = [
  {
    name: "busybox",
    missing: () => missing("busybox-static", busyboxProgram()),
    layers: () => busyboxLayers(busyboxProgram() ?? "", folder.path("make")),
    args: ["/bin/sh", "-c", "echo $(cat /etc/motd) $(id -un); ls /bin/vi /bin/ping 2>&1 | grep -c 'No such file'"],
    prints: /^busybox root\n2\n$/,
    atLeast: 200,
    podman: [touchedLater(".", "./bin", "./etc")],
  },
  {
    name: "a Node.js application of many small files",
    missing: () => false,
    layers: () => nodeLayers(folder.path("make")),
    args: ["/usr/bin/node", "/app/main.mjs"],
    prints: /^true [0-9]{4,}\n$/,
    atLeast: 1000,
    podman: [touchedLater(".")],
  },
  {
    name: "a Debian root",
    missing: () => missing("a Debian root", debianRoot()),
    layers: () => [readFileSync(debianRoot() ?? ""), changesOfDebian()],
    args: ["/bin/sh", "-c", "dpkg-query -W | wc -l; cat /etc/motd; /bin/also-bash -c 'echo $BASH'"],
    prints: /^[0-9]{2,}\nchanged\n\/bin\/also-bash\n$/,
    atLeast: 5000,
    podman: [touchedLater(".", "./etc", "./run", "./srv", "./usr/bin", "./usr/share", "./var"), linkAttributes],
  },
];

/** Sealed, signed, verified, unlocked and unpacked as a guest does it. */
async function pullSealed(layers: readonly Buffer[], args: readonly string[]): Promise<void> {
  const kbs = broker();
  const key = await signer();
  const config = { config: { Entrypoint: args } };
  const { store, root } = await image({ layers, config, compression: "gzip", seal: kbs.seal("AES_256_GCM_C2SP_CHUNKED_V1") });
  await sign(store, root, key);
  await pullImage({
    store,
    reference: "latest",
    target: folder.path("out"),
    output: "bundle",
    verification: { kind: "signature", requirement: { kind: "keys", keys: [key.publicKey], log: "ignore" } },
    openKeys: async () => [kbs.unwrapper],
  });
}

describe.skipIf(!isRoot || missingSetfattr() || missingPeers("umoci", "podman-4.3"))("a real image, sealed and pulled", () => {
  for (const real of realImages) {
    it.skipIf(real.missing())(`of ${real.name} is the tree that umoci and podman make, and starts`, { timeout: 120_000 }, async () => {
      const layers = real.layers();
      await pullSealed(layers, real.args);
      const layout = await layoutOf(await image({ layers, compression: "gzip" }), folder.path("layout"));
      const ours = factsOf(folder.path("out/rootfs"));
      expect(ours.size).toBeGreaterThan(real.atLeast);
      expect(differences(ours, factsOf(umociTree(layout, folder.path("umoci"))))).toEqual([]);
      const podman = differences(ours, factsOf(podmanTree(layout, folder.path("podman"))));
      expect(unexplained(podman, real.podman)).toEqual({ differences: [], idle: [] });
      for (const runtime of ["runc", "crun"] as const) {
        if (missingRuntime(runtime)) continue;
        const started = startedBy(runtime, folder.path("out"), folder.path("state"));
        expect([runtime, started]).toMatchObject([runtime, { status: 0, stderr: "", stdout: expect.stringMatching(real.prints) }]);
      }
    });
  }
});
