import { makeImage, makeIndex, makeReferrer, type FixtureImage } from "./image.ts";
import type { LayerEntry } from "./layer.ts";

const entries: readonly LayerEntry[] = [
  { kind: "file", path: "etc/hello", content: Buffer.from("hello\n") },
  { kind: "symlink", path: "etc/link", target: "hello" },
  { kind: "hardlink", path: "etc/hard", target: "etc/hello" },
];

/** Images whose every byte is fixed on every machine: stored deflate blocks, no times, no machine's own files. */
export async function goldenImages(): Promise<Readonly<Record<string, FixtureImage>>> {
  const image = (architecture: string): Promise<FixtureImage> =>
    makeImage({
      layers: [{ entries, compression: "gzip-stored" }],
      platform: { os: "linux", architecture },
      run: { Entrypoint: ["/etc/hello"] },
    });
  const [amd64, arm64] = [await image("amd64"), await image("arm64")];
  const index = makeIndex({ images: [amd64, arm64] });
  return { amd64, arm64, index, referrer: makeReferrer(index.descriptor, "application/vnd.example.sbom+json", "{}") };
}

/** What `golden.json` holds. */
export async function goldenDigests(): Promise<Readonly<Record<string, { readonly digest: string; readonly size: number }>>> {
  return Object.fromEntries(
    Object.entries(await goldenImages()).map(([name, { descriptor }]) => [name, { digest: descriptor.digest, size: descriptor.size }]),
  );
}
