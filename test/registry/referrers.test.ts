import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { mediaTypes, serializeJson } from "../../src/oci/index.ts";
import { openRegistry, RegistryTransport, type RegistryNotice } from "../../src/registry/index.ts";
import { errorOf } from "./captures.ts";
import { answer, startFaultServer, type FaultServer } from "./fault-server.ts";
import { contentOf, emptyConfig, manifestOf, pushContent, readAll, referrerOf, type Content } from "./images.ts";

const image = manifestOf(emptyConfig, []);
const tag = `sha256-${image.descriptor.digest.slice(7)}`;
const tagPath = new RegExp(`manifests/${tag}$`);

let registry: FaultServer;
let transport: RegistryTransport;
let notices: RegistryNotice[];
beforeEach(async () => {
  registry = await startFaultServer();
  notices = [];
  transport = new RegistryTransport({ retry: { attempts: 3, baseMs: 1, maxMs: 2 }, onNotice: (notice) => notices.push(notice) });
});
afterEach(async () => {
  await transport.close();
  await registry.close();
});
const open = () => openRegistry({ host: registry.host, repository: "app", transport });
const notesOf = async () => (await open().referrers(image.descriptor)).map(({ annotations }) => annotations?.["note"]);
const indexOf = (...entries: readonly unknown[]) =>
  contentOf(
    serializeJson({ schemaVersion: 2, mediaType: mediaTypes.index, manifests: entries, annotations: { kept: "yes" } }),
    mediaTypes.index,
  );
const entryOf = ({ descriptor }: Content) => ({
  ...descriptor,
  artifactType: "application/vnd.test.signature",
  annotations: { note: "x" },
});

describe("the referrers tag", () => {
  it("keeps what others wrote there, members that we do not know included", async () => {
    const other = referrerOf(image.descriptor, "other");
    registry.seed(other);
    registry.seed(indexOf({ ...entryOf(other), "x-unknown": 1 }), tag);
    const mine = referrerOf(image.descriptor, "mine");
    await open().push(mine.descriptor, mine.source);
    const written = JSON.parse(registry.manifests.get(tag)?.bytes.toString() ?? "{}") as { manifests: unknown[]; annotations: unknown };
    expect(written.annotations).toEqual({ kept: "yes" });
    expect(written.manifests[0]).toMatchObject({ "x-unknown": 1 });
    expect(written.manifests).toHaveLength(2);
  });

  it("is repaired when another writer replaces it with what he had read before", async () => {
    const mine = referrerOf(image.descriptor, "mine");
    const other = referrerOf(image.descriptor, "other");
    registry.seed(other);
    // Twice, after our writing: the other writer knows nothing of ours.
    registry.on("GET", tagPath, async ({ nth, pass }) => {
      if (nth === 1 || nth === 3) registry.seed(indexOf(entryOf(other)), tag);
      await pass();
    });
    await open().push(mine.descriptor, mine.source);
    expect(new Set(await notesOf())).toEqual(new Set(["x", "mine"]));
  });

  it("gets back what others lost of each other, but not what was deleted", async () => {
    const [mine, other, deleted] = ["mine", "other", "deleted"].map((note) => referrerOf(image.descriptor, note)) as [
      Content,
      Content,
      Content,
    ];
    registry.seed(other);
    registry.seed(indexOf(entryOf(other), entryOf(deleted)), tag);
    registry.on("GET", tagPath, async ({ nth, pass }) => {
      if (nth === 1) registry.seed(indexOf(), tag);
      await pass();
    });
    await open().push(mine.descriptor, mine.source);
    expect(new Set(await notesOf())).toEqual(new Set(["x", "mine"]));
  });

  it.each([0, 1, 2, 3])("loses nothing that the same process adds while the reading no. %d is answered", async (moment) => {
    const store = open();
    const late: Promise<unknown>[] = [];
    registry.on("GET", tagPath, async ({ nth, pass }) => {
      const joining = referrerOf(image.descriptor, "late");
      if (nth === moment) late.push(store.push(joining.descriptor, joining.source));
      await pass();
    });
    const mine = referrerOf(image.descriptor, "early");
    await store.push(mine.descriptor, mine.source);
    await Promise.all(late);
    expect(new Set(await notesOf())).toEqual(new Set(["early", "late"]));
  });

  it("is given up after a bounded number of rounds when somebody keeps replacing it", async () => {
    registry.on("GET", tagPath, async ({ pass }) => {
      registry.manifests.delete(tag);
      await pass();
    });
    const controller = new AbortController();
    registry.on("PUT", tagPath, async ({ nth, pass }) => {
      // The bound itself takes seconds; that it ends when told to is what can be shown quickly.
      if (nth === 3) controller.abort();
      await pass();
    });
    const mine = referrerOf(image.descriptor, "mine");
    expect(await errorOf(open().push(mine.descriptor, mine.source, { signal: controller.signal }))).toMatchObject({
      code: "ERR_INTERRUPTED",
    });
  });

  it("holds entries of cosign 3.1, whose type and annotations are read from the manifest", async () => {
    const bundle = referrerOf(image.descriptor, "bundle", "application/vnd.dev.sigstore.bundle.v0.3+json");
    registry.seed(bundle);
    registry.seed(indexOf({ ...bundle.descriptor, artifactType: mediaTypes.empty }), tag);
    const [entry, ...more] = await open().referrers(image.descriptor, { artifactType: "application/vnd.dev.sigstore.bundle.v0.3+json" });
    expect(entry).toMatchObject({ digest: bundle.descriptor.digest, annotations: { note: "bundle" } });
    expect(more).toEqual([]);
  });
});

describe("the referrers API", () => {
  const page = (entries: readonly unknown[], link?: string) =>
    answer(
      200,
      { "content-type": mediaTypes.index, ...(link === undefined ? {} : { link: `<${link}>; rel="next"` }) },
      JSON.stringify({ schemaVersion: 2, mediaType: mediaTypes.index, manifests: entries }),
    );

  it("is read over all pages, filtered by us whatever the registry filters, and joined with the tag", async () => {
    const [one, two, three] = ["one", "two", "three"].map((note) => referrerOf(image.descriptor, note)) as [Content, Content, Content];
    for (const content of [one, two, three]) registry.seed(content);
    registry.on("GET", /last=/, page([entryOf(two), { ...entryOf(three), artifactType: "application/vnd.other" }]));
    registry.on(
      "GET",
      /referrers\/sha256:[0-9a-f]+(\?artifactType.*)?$/,
      page([entryOf(one)], `/v2/app/referrers/${image.descriptor.digest}?last=1`),
    );
    registry.seed(indexOf(entryOf(two), entryOf(referrerOf(image.descriptor, "four"))), tag);
    expect(await open().referrers(image.descriptor)).toHaveLength(4);
    expect(await open().referrers(image.descriptor, { artifactType: "application/vnd.other" })).toHaveLength(1);
    expect(registry.requests.some(({ url }) => url.includes("artifactType=application%2Fvnd.other"))).toBe(true);
  });

  it("is believed after looking: a manifest that the registry forgot to list is put again", async () => {
    const mine = referrerOf(image.descriptor, "mine");
    let puts = 0;
    registry.on("PUT", /manifests/, async ({ response, pass }) => {
      puts += 1;
      response.setHeader("oci-subject", image.descriptor.digest);
      await pass();
    });
    registry.on("GET", /referrers/, async (context) => page(puts > 1 ? [entryOf(mine)] : [])(context));
    await pushContent(open(), emptyConfig, mine);
    expect(puts).toBe(2);
    expect(registry.manifests.has(tag)).toBe(false);
  });

  it("that never lists an accepted referrer is a warning, for it may do so later", async () => {
    registry.on("PUT", /manifests/, async ({ response, pass }) => {
      response.setHeader("oci-subject", image.descriptor.digest);
      await pass();
    });
    registry.on("GET", /referrers/, page([]));
    const mine = referrerOf(image.descriptor, "mine");
    await open().push(mine.descriptor, mine.source);
    expect(notices).toEqual([expect.objectContaining({ kind: "warning" })]);
    expect((await readAll(await open().fetch(mine.descriptor))).equals(mine.bytes)).toBe(true);
  });
});
