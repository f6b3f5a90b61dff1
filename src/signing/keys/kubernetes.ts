import type { Dispatcher } from "undici";
import type { CallOptions } from "../../store/index.ts";
import type { JsonObject } from "../shape.ts";
import { keyServiceError } from "./checked-signer.ts";
import { callKeyService } from "./key-http.ts";
import { loadPublicKey, type PublicKey } from "./public-key.ts";
import { loadSigner, type KeySigner } from "./signer.ts";

/** How to reach a cluster's API: in a pod, the service account's token and the cluster's certificates. */
export interface KubernetesAccess {
  /** `https://kubernetes.default.svc`. */
  readonly server: string;
  readonly token: string;
  /** PEM of the cluster's own authorities, which no system knows; without them the server's certificate is held to the system's. */
  readonly authorities?: string | undefined;
  /** Stands for `authorities`. */
  readonly dispatcher?: Dispatcher | undefined;
}

const grammar = /^k8s:\/\/([a-z0-9][a-z0-9.-]{0,252})\/([a-z0-9][a-z0-9.-]{0,252})$/;

/**
 * A signer over the key pair that cosign keeps in a Kubernetes secret: `k8s://namespace/name` with `cosign.key` and
 * `cosign.password`. Throws `ERR_KEY_SERVICE` and what {@link loadSigner} throws.
 */
export async function openKubernetesSigner(reference: string, access: KubernetesAccess, options: CallOptions = {}): Promise<KeySigner> {
  const secret = await readSecret(reference, access, options);
  return await loadSigner({
    pem: member(secret, "cosign.key", reference),
    source: reference,
    password: secret["cosign.password"] === undefined ? "" : member(secret, "cosign.password", reference).toString("utf8"),
  });
}

/** The public key of such a secret, `cosign.pub`; the private one is in the same answer and is not looked at. */
export async function loadKubernetesPublicKey(reference: string, access: KubernetesAccess, options: CallOptions = {}): Promise<PublicKey> {
  return loadPublicKey({ bytes: member(await readSecret(reference, access, options), "cosign.pub", reference), source: reference });
}

async function readSecret(reference: string, access: KubernetesAccess, { signal }: CallOptions): Promise<JsonObject> {
  const [, namespace, name] = grammar.exec(reference) ?? [];
  if (namespace === undefined || name === undefined)
    throw keyServiceError(`${reference.slice(0, 120)} is not the URI of a Kubernetes secret`, "write k8s://NAMESPACE/NAME");
  const { data } = await callKeyService({
    url: new URL(`${access.server.replace(/\/+$/, "")}/api/v1/namespaces/${namespace}/secrets/${name}`),
    headers: { authorization: `Bearer ${access.token}` },
    authorities: access.authorities,
    dispatcher: access.dispatcher,
    subject: reference,
    ...(signal === undefined ? {} : { signal }),
  });
  return typeof data === "object" && data !== null ? (data as JsonObject) : {};
}

function member(secret: JsonObject, name: string, reference: string): Buffer {
  const text = secret[name];
  if (typeof text !== "string")
    throw keyServiceError(`${reference} has no member ${name}`, "cosign generate-key-pair k8s://NAMESPACE/NAME makes such a secret");
  return Buffer.from(text, "base64");
}
