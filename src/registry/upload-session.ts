import { digestAlgorithmOf, isDigest, type ByteStream, type Digest } from "../bytes/index.ts";
import { RegistryError } from "./errors.ts";
import { registryLimits } from "./options.ts";
import { ownLocation } from "./redirects.ts";
import type { DocumentReply, RepositoryClient } from "./repository-client.ts";
import { mergeScopes, scopesOf } from "./scopes.ts";

/** An open upload session: where the next request goes, and the smallest chunk that the registry takes (0: any). */
export interface UploadSession {
  readonly location: URL;
  readonly minChunk: number;
}

/** What all steps of one upload share. */
export interface UploadContext {
  readonly client: RepositoryClient;
  /** "blob sha256:… of docker://…", for messages. */
  readonly subject: string;
  readonly signal: AbortSignal | undefined;
}

/**
 * Starts an upload session, or mounts the blob from another repository of the same registry.
 * Source: distribution-spec, end-4a and end-11.
 */
export async function startUpload(
  context: UploadContext,
  request: { readonly digest?: Digest | undefined; readonly mountFrom?: string | undefined },
): Promise<UploadSession | "mounted"> {
  const { client, subject, signal } = context;
  const { digest, mountFrom } = request;
  const mounting = digest !== undefined && mountFrom !== undefined;
  const push = scopesOf(client.repository, "pull", "push");
  // docker-registry 2.8 takes any digest without this; the specification wants it for other algorithms than sha256.
  const algorithm = digest === undefined || digestAlgorithmOf(digest) === "sha256" ? "" : `?digest-algorithm=${digestAlgorithmOf(digest)}`;
  const reply = await client.document(
    {
      method: "POST",
      target: `blobs/uploads/${mounting ? `?mount=${digest}&from=${encodeURIComponent(mountFrom)}` : algorithm}`,
      subject,
      expect: mounting ? [201, 202] : [202],
      scopes: mounting ? mergeScopes(push, scopesOf(mountFrom, "pull")) : push,
      signal,
    },
    registryLimits.errorBody,
  );
  if (reply.status === 201) return "mounted";
  const minimum = reply.headers.one("oci-chunk-min-length") ?? "";
  return { location: locationOf(context, reply), minChunk: /^\d{1,12}$/.test(minimum) ? Number(minimum) : 0 };
}

/** Gives a session up. That is optional: registries answer 404 or 405 or want other rights, and sessions expire anyway. */
export async function cancelUpload(context: UploadContext, location: URL): Promise<void> {
  const call = {
    method: "DELETE",
    target: location,
    subject: context.subject,
    expect: [202, 204, 404, 405],
    repeat: "once",
    deadlineMs: 5000,
  } as const;
  await context.client.document(call, registryLimits.errorBody).catch(() => undefined);
}

/** Sends the whole blob, or nothing more, and closes the session. Source: distribution-spec, end-6. */
export async function putBlob(
  context: UploadContext,
  location: URL,
  digest: Digest,
  body: Uint8Array | { readonly stream: ByteStream; readonly size: number } | undefined,
): Promise<void> {
  const { client, subject, signal } = context;
  const reply = await client.document(
    {
      method: "PUT",
      target: withDigest(location, digest),
      subject,
      // Some registries answer 204; a 200 is what a web page that swallows everything answers.
      expect: [201, 204],
      headers: { "content-type": "application/octet-stream" },
      body,
      // The caller asks first whether the blob has arrived.
      repeat: "once",
      headersMs: client.transport.timeouts.commitMs,
      deadlineMs: client.transport.timeouts.commitMs,
      signal,
    },
    registryLimits.errorBody,
  );
  checkDigestHeader(reply, digest, subject);
}

/** The next place of a session. */
export function locationOf(context: UploadContext, reply: DocumentReply): URL {
  return ownLocation(reply.headers.one("location"), reply.url, context.client.origin, context.subject);
}

/** The location with `digest` added, everything else exactly as the registry wrote it: the state in it may be signed. */
export function withDigest(location: URL, digest: Digest): URL {
  const url = new URL(location);
  url.search = `${url.search === "" ? "?" : `${url.search}&`}digest=${digest}`;
  return url;
}

/** Refuses a Docker-Content-Digest of the same algorithm that says something else was stored. */
export function checkDigestHeader(reply: DocumentReply, expected: Digest, subject: string): void {
  const got = reply.headers.one("docker-content-digest");
  // docker-registry 2.8 answers with sha256 whatever it was given; only like can be compared with like.
  if (got === undefined || !isDigest(got) || digestAlgorithmOf(got) !== digestAlgorithmOf(expected) || got === expected) return;
  throw new RegistryError("ERR_REGISTRY_PROTOCOL", {
    message: `${subject}: the registry stored it as ${got} (expected ${expected})`,
    hint: "the registry or a proxy changed the content on the way; do not use what was pushed",
  });
}
