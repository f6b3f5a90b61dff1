import { attestationAgentScheme, checkKek, openCocoPacket, parseCocoPacket, writeCocoPacket } from "./coco-packet.ts";
import type { KeyBroker, KeyPacket, KeyUnwrapper, KeyWrapper, KeywrapOptions, WrapScheme } from "./contract.ts";
import { isKbsUri, normalizeKbsUri } from "./kbs-uri.ts";
import { damagedPacket, openRecipient, writeJwe } from "./jwe.ts";
import { headerText, parseJwe } from "./jwe-form.ts";

/** Which packets a KBS recipient gets: the one that CoCo guests know, the JWE that our guest knows, or both. */
export type KbsPackets = "both" | "attestation-agent" | "jwe";

/** The key management of the JWE under a key encryption key. Source: RFC 7518 section 4.4. */
const keyWrapAlgorithm = "A256KW";

export interface KbsWrapperRequest {
  /** Where the key encryption key is kept: `kbs:///repository/type/tag`. */
  readonly uri: string;
  /** Its 32 raw bytes. */
  readonly kek: Uint8Array;
  readonly packets?: KbsPackets | undefined;
}

/**
 * A recipient that is whoever the KBS hands the key to. Writes a JWE whose `kid` is the URI, and CoCo's packet.
 * Throws `ERR_KEYWRAP_KBS_URI_MALFORMED`, `ERR_KEYWRAP_KEK_LENGTH`.
 */
export function kbsWrapper(request: KbsWrapperRequest): KeyWrapper {
  const uri = normalizeKbsUri(request.uri);
  const { kek, packets = "both" } = request;
  checkKek(kek, uri);
  const schemes: readonly WrapScheme[] =
    packets === "both" ? ["jwe", attestationAgentScheme] : [packets === "jwe" ? "jwe" : attestationAgentScheme];
  return {
    name: uri,
    id: uri,
    schemes,
    async wrap(optsdata) {
      const written: KeyPacket[] = [];
      for (const scheme of schemes) {
        const bytes =
          scheme === "jwe" ? await writeJwe(optsdata, { alg: keyWrapAlgorithm, kid: uri }, kek) : writeCocoPacket(optsdata, kek, uri);
        written.push({ scheme, bytes });
      }
      return written;
    },
  };
}

export interface BrokerUnwrapperRequest {
  readonly broker: KeyBroker;
  readonly name: string;
  readonly reach: "local" | "remote";
}

/**
 * Opens packets whose key encryption key a broker hands out. Each key is asked for once, whatever comes of it: all
 * layers of an image share one, and a refusal must not be repeated per layer.
 */
export function brokerUnwrapper(request: BrokerUnwrapperRequest): KeyUnwrapper {
  const asked = new Map<string, Promise<Uint8Array | undefined>>();
  const fetchKey = (uri: string, options?: KeywrapOptions) => {
    let answer = asked.get(uri);
    if (answer === undefined) {
      answer = request.broker.fetchKey(uri, options);
      asked.set(uri, answer);
    }
    return answer;
  };
  return {
    name: request.name,
    reach: request.reach,
    // Guests take the first provider annotation, whatever its name; the packet itself says whether it is one of these.
    accepts: (scheme) => scheme === "jwe" || scheme.startsWith("provider."),
    unwrap: (packet, options) => (packet.scheme === "jwe" ? unwrapJwe(packet, fetchKey, options) : unwrapPacket(packet, fetchKey, options)),
  };
}

type FetchKey = (uri: string, options?: KeywrapOptions) => Promise<Uint8Array | undefined>;

async function unwrapJwe(packet: KeyPacket, fetchKey: FetchKey, options?: KeywrapOptions): Promise<Uint8Array | undefined> {
  const form = parseJwe(packet.bytes);
  for (const recipient of form.recipients) {
    const kid = headerText(recipient.joined, "kid");
    if (headerText(recipient.joined, "alg") !== keyWrapAlgorithm || kid === undefined || !isKbsUri(kid)) continue;
    const uri = normalizeKbsUri(kid);
    const kek = await fetchKey(uri, options);
    if (kek === undefined) continue;
    checkKek(kek, uri);
    const opened = await openRecipient(form, recipient, kek, keyWrapAlgorithm);
    if (opened.kind === "opened") return opened.plaintext;
    throw damagedPacket(`the JWE for the key ${uri}`, opened.cause);
  }
  return undefined;
}

async function unwrapPacket(packet: KeyPacket, fetchKey: FetchKey, options?: KeywrapOptions): Promise<Uint8Array | undefined> {
  // A provider of another kind writes what it likes: only CoCo's own packets must be well formed.
  if (packet.scheme !== attestationAgentScheme && packet.bytes[0] !== 0x7b) return undefined;
  const parsed = parseCocoPacket(packet.bytes);
  if (parsed.provider !== "kbs") return undefined;
  const uri = normalizeKbsUri(isKbsUri(parsed.kid) ? parsed.kid : `kbs://${parsed.kid.startsWith("/") ? "" : "/"}${parsed.kid}`);
  const kek = await fetchKey(uri, options);
  return kek === undefined ? undefined : openCocoPacket({ ...parsed, kid: uri }, kek);
}

/** A broker for key encryption keys at hand (`kek:URI=FILE`). Throws `ERR_KEYWRAP_KBS_URI_MALFORMED`, `ERR_KEYWRAP_KEK_LENGTH`. */
export function keksAtHand(keks: readonly { readonly uri: string; readonly kek: Uint8Array }[]): KeyBroker {
  const table = new Map(
    keks.map(({ uri, kek }) => {
      const normal = normalizeKbsUri(uri);
      checkKek(kek, normal);
      return [normal, kek];
    }),
  );
  return { fetchKey: async (uri) => table.get(uri) };
}
