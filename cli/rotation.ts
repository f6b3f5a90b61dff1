import { isKbsUri, kbsWrapper, type KeyWrapper, type RecipientDescription } from "../src/keywrap/index.ts";
import type { KbsAdmin } from "../src/kbs/index.ts";
import type { PacketReplacer } from "../src/layer/index.ts";
import { describeImage } from "../src/pipeline/index.ts";
import type { Descriptor } from "../src/oci/index.ts";
import type { ContentStore } from "../src/store/index.ts";
import { usage } from "./errors.ts";

/** Keys at the KBS that an image is wrapped for, by the name without a version. */
export async function kbsKeysOf(store: ContentStore, root: Descriptor, signal: AbortSignal): Promise<ReadonlySet<string>> {
  const { platforms } = await describeImage({ store, root }, { signal });
  const recipients = platforms.flatMap(({ layers }) => layers.flatMap(({ encryption }) => encryption?.recipients ?? []));
  const keys = new Set(recipients.flatMap(({ id }) => (id !== undefined && isKbsUri(id) ? [baseOf(id)] : [])));
  if (keys.size === 0)
    throw usage(
      "the image is wrapped for no key at a KBS",
      "ociseal inspect shows its recipients; rotate other keys with --add and --remove",
    );
  return keys;
}

/** `kbs:///default/key/app.v2` is version 2 of `kbs:///default/key/app`. */
function baseOf(uri: string): string {
  return uri.replace(/\.v[1-9]\d{0,8}$/, "");
}

/** New versions of keys, as recipients; what they replace goes. */
export interface Rotation {
  /** New versions of the keys that open a layer already; no other layer gets them. */
  readonly addFor: (there: readonly RecipientDescription[]) => readonly KeyWrapper[];
  readonly removes: (recipient: RecipientDescription) => boolean;
  /** Stops handing out the versions that an image was wrapped for before. */
  disableOld(removed: readonly RecipientDescription[]): Promise<void>;
}

/** Makes a new version of every key, proved to be there, before any manifest changes. */
export async function rotateKeys(admin: KbsAdmin, keys: ReadonlySet<string>, signal: AbortSignal): Promise<Rotation> {
  const wrappers: KeyWrapper[] = [];
  const fresh = new Set<string>();
  for (const key of keys) {
    await admin.keys.rotate(key, { signal });
    const registered = await admin.registerKey(key, { signal });
    wrappers.push(kbsWrapper({ uri: registered.uri, kek: registered.key, packets: "both" }));
    fresh.add(registered.uri);
  }
  return {
    addFor: (there) =>
      wrappers.filter(({ id }) =>
        there.some((other) => other.id !== undefined && isKbsUri(other.id) && baseOf(other.id) === baseOf(id ?? "")),
      ),
    removes: ({ id }) => id !== undefined && isKbsUri(id) && keys.has(baseOf(id)) && !fresh.has(id),
    async disableOld(removed) {
      const old = new Set(
        removed.flatMap(({ id }) => (id !== undefined && isKbsUri(id) && keys.has(baseOf(id)) && !fresh.has(id) ? [id] : [])),
      );
      for (const id of old) {
        // The plain name is what it was when the image was made: the version that is released.
        const version = /\.v([1-9]\d{0,8})$/.exec(id)?.[1];
        const released = version === undefined ? (await admin.keys.describe(id, { signal })).releasedVersion : Number(version);
        await admin.keys.setState(baseOf(id), { state: "disabled", version: released, signal });
      }
    },
  };
}

/** Lets the KBS re-wrap: this process sees neither the old key nor the new one. */
export function serverSideReplacer(admin: KbsAdmin): PacketReplacer {
  return async (packet, recipients, { signal }) => {
    const [first] = recipients;
    if (first?.id === undefined || recipients.length !== 1 || !isKbsUri(first.id)) return undefined;
    const { packet: bytes, fromVersion, toVersion } = await admin.keys.rewrap(baseOf(first.id), packet.bytes, { signal });
    return fromVersion === toVersion ? undefined : { scheme: packet.scheme, bytes };
  };
}
