import { randomBytes } from "node:crypto";
import { isKbsUri, kbsWrapper, type KeyPacket, type KeyWrapper, type RecipientDescription } from "../src/keywrap/index.ts";
import type { KbsAdmin } from "../src/kbs/index.ts";
import type { PacketReplacer } from "../src/layer/index.ts";
import { describeImage, rewrapImage, type RewrapImageRequest } from "../src/pipeline/index.ts";
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

const kekBytes = 32;

/** A version of a key that is no longer handed out. */
interface RetiredVersion {
  readonly key: string;
  readonly version: number;
}

/** New versions of keys, as recipients; what they replace goes. */
export interface Rotation {
  /** New versions of the keys that open a layer already; no other layer gets them. */
  readonly addFor: (there: readonly RecipientDescription[]) => readonly KeyWrapper[];
  readonly removes: (recipient: RecipientDescription) => boolean;
  /** What each key is called in its new version. */
  readonly fresh: ReadonlyMap<string, string>;
  /** Stops handing out the versions that an image was wrapped for before; with a plan only says which. */
  disableOld(removed: readonly RecipientDescription[]): Promise<readonly RetiredVersion[]>;
}

export interface RotationRequest {
  readonly keys: ReadonlySet<string>;
  /** `at-the-kbs`: no key is read, neither the old one nor the new one. */
  readonly wrapping: "here" | "at-the-kbs";
  /** `plan` makes no version; what is wrapped under the stand-in of one is never written. */
  readonly mode: "write" | "plan";
}

/** That the keys at hand open every layer. Throws `ERR_KEYWRAP_NO_KEY` and what unwrapping throws. */
export async function requireKeys(request: Omit<RewrapImageRequest, "to" | "add" | "mode">, signal: AbortSignal): Promise<void> {
  const nobody = kbsWrapper({ uri: "kbs:///default/nobody/nobody", kek: randomBytes(kekBytes), packets: "both" });
  await rewrapImage({ ...request, to: { store: request.from, reference: undefined }, add: [nobody], mode: "plan" }, { signal });
}

/** Makes a new version of every key, proved to be there where it is wrapped under here, before any manifest changes. */
export async function rotateKeys(admin: KbsAdmin, request: RotationRequest, signal: AbortSignal): Promise<Rotation> {
  const { keys, wrapping, mode } = request;
  const wrappers: KeyWrapper[] = [];
  const fresh = new Map<string, string>();
  const released = new Map<string, number>();
  for (const key of keys) {
    const view = mode === "plan" ? await admin.keys.describe(key, { signal }) : await admin.keys.rotate(key, { signal });
    const newest = Math.max(...view.versions.map(({ version }) => version)) + (mode === "plan" ? 1 : 0);
    released.set(key, view.releasedVersion);
    fresh.set(key, `${key}.v${newest}`);
    if (wrapping === "at-the-kbs") continue;
    const registered =
      mode === "plan" ? { uri: `${key}.v${newest}`, key: randomBytes(kekBytes) } : await admin.registerKey(key, { signal });
    wrappers.push(kbsWrapper({ uri: registered.uri, kek: registered.key, packets: "both" }));
    fresh.set(key, registered.uri);
  }
  const isOld = ({ id }: RecipientDescription): boolean =>
    id !== undefined && isKbsUri(id) && keys.has(baseOf(id)) && fresh.get(baseOf(id)) !== id;
  return {
    fresh,
    addFor: (there) =>
      wrappers.filter(({ id }) =>
        there.some((other) => other.id !== undefined && isKbsUri(other.id) && baseOf(other.id) === baseOf(id ?? "")),
      ),
    removes: isOld,
    async disableOld(removed) {
      const retired: RetiredVersion[] = [];
      for (const id of new Set(removed.filter(isOld).flatMap((recipient) => recipient.id ?? []))) {
        const key = baseOf(id);
        // The plain name is what it was when the image was made: the version that is released.
        const version = Number(/\.v([1-9]\d{0,8})$/.exec(id)?.[1] ?? released.get(key));
        if (mode === "write") await admin.keys.setState(key, { state: "disabled", version, signal });
        retired.push({ key, version });
      }
      return retired;
    },
  };
}

/**
 * Lets the KBS re-wrap: this process sees neither the old key nor the new one. In a plan of a rotation the new version is
 * not there yet, so a stand-in of the same form takes its place in the report.
 */
export function serverSideReplacer(admin: KbsAdmin, planned?: ReadonlyMap<string, string>): PacketReplacer {
  return async (packet, recipients, { signal }) => {
    const [first] = recipients;
    if (first?.id === undefined || recipients.length !== 1 || !isKbsUri(first.id)) return undefined;
    const next = planned?.get(baseOf(first.id));
    if (next !== undefined) return standIn(packet.scheme, next);
    const { packet: bytes, fromVersion, toVersion } = await admin.keys.rewrap(baseOf(first.id), packet.bytes, { signal });
    return fromVersion === toVersion ? undefined : { scheme: packet.scheme, bytes };
  };
}

async function standIn(scheme: KeyPacket["scheme"], uri: string): Promise<KeyPacket | undefined> {
  const packets = scheme === "jwe" ? "jwe" : "attestation-agent";
  const [packet] = await kbsWrapper({ uri, kek: randomBytes(kekBytes), packets }).wrap(randomBytes(kekBytes));
  return packet;
}
