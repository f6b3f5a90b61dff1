import { readdir } from "node:fs/promises";
import { join, resolve } from "node:path";
import { formatImageName, type ImageName } from "../src/oci/index.ts";
import {
  exactly,
  loadSigningConfig,
  loadTrustedRoot,
  matchingWhole,
  parsePolicy,
  publicGoodServices,
  publicGoodTrustedRoot,
  tokenFromDeviceFlow,
  tokenFromGithub,
  type IdentityTokenSource,
  type ImageSigner,
  type LogRule,
  type PolicyRequirement,
  type PolicySubject,
  type SignatoryRequirement,
  type SigningServices,
  type TrustedRoot,
} from "../src/signing/index.ts";
import { usage } from "./errors.ts";
import { readSmallFile } from "./files.ts";
import type { Shell } from "./shell.ts";
import { publicKeyByName, signerByName } from "./signing-keys.ts";

/** Flags that say who signs. */
export interface SignerOptions {
  readonly key?: string;
  readonly identityToken?: string;
  readonly signingConfig?: string;
  readonly tlog?: string;
}

/** Flags that say who must have signed. */
export interface VerifierOptions {
  readonly key?: string;
  readonly certificateIdentity?: string;
  readonly certificateIdentityRegexp?: string;
  readonly certificateOidcIssuer?: string;
  readonly trustedRoot?: string;
  readonly policy?: string;
  readonly tlog?: string;
}

const logRules: ReadonlySet<string> = new Set(["required", "if-present", "ignore"]);

/** The signer of `--key`, or whoever an identity token names. */
export async function signerOf(shell: Shell, options: SignerOptions): Promise<ImageSigner> {
  const { key, tlog } = options;
  if (tlog !== undefined && tlog !== "upload" && tlog !== "none") throw usage(`--tlog takes upload or none, not ${tlog}`);
  const config = options.signingConfig;
  const services =
    config === undefined
      ? publicGoodServices
      : loadSigningConfig({ bytes: await readSmallFile(config, "signing config"), source: config, now: new Date() });
  if (key !== undefined) {
    const signer = await signerByName(shell, key);
    return tlog === "upload" || config !== undefined ? { ...signer, services } : signer;
  }
  if (tlog === "none") throw usage("without a key a signature only counts with a log entry", "leave --tlog none away, or give --key");
  return { kind: "keyless", identityToken: await identityTokenOf(shell, options.identityToken, services), services };
}

/** A token from a file, from the job's environment, or by signing in on another device. */
async function identityTokenOf(shell: Shell, file: string | undefined, services: SigningServices): Promise<IdentityTokenSource> {
  const { env } = shell;
  if (file !== undefined) {
    const token = (await readSmallFile(file, "identity token", 64 * 1024)).toString("utf8").trim();
    return () => Promise.resolve(token);
  }
  const [requestUrl, requestToken, gitlab] = [
    env["ACTIONS_ID_TOKEN_REQUEST_URL"],
    env["ACTIONS_ID_TOKEN_REQUEST_TOKEN"],
    env["SIGSTORE_ID_TOKEN"],
  ];
  if (requestUrl !== undefined && requestToken !== undefined) return tokenFromGithub({ requestUrl, requestToken });
  if (gitlab !== undefined) return () => Promise.resolve(gitlab);
  if (!shell.stdin.isTTY)
    throw usage("nothing says who signs", "give --key FILE, or --identity-token FILE, or run in a job that offers a token");
  if (services.issuerUrl === undefined)
    throw usage("the signing config names no issuer to sign in at (oidcUrls)", "give --identity-token FILE");
  return tokenFromDeviceFlow({
    issuer: services.issuerUrl,
    clientId: "sigstore",
    prompt: ({ verificationUrl, userCode }) => shell.stderr.write(`open ${verificationUrl} and enter ${userCode}\n`),
  });
}

/** Who must have signed the image of this name. Throws `ERR_USAGE` when nothing says so, or two things do. */
export async function requirementOf(
  shell: Shell,
  options: VerifierOptions,
  name: ImageName,
): Promise<SignatoryRequirement | PolicyRequirement> {
  const { key, certificateIdentity, certificateIdentityRegexp, policy, tlog } = options;
  if (tlog !== undefined && !logRules.has(tlog)) throw usage(`--tlog takes required, if-present or ignore, not ${tlog}`);
  const identity = certificateIdentity ?? certificateIdentityRegexp;
  const ways = [key, identity, policy].filter((way) => way !== undefined).length;
  if (ways !== 1) {
    throw usage(
      ways === 0 ? "nothing says who must have signed" : "give one of --key, --certificate-identity and --policy",
      "give --key FILE, --certificate-identity with --certificate-oidc-issuer, or --policy FILE",
    );
  }
  if (policy !== undefined && (tlog !== undefined || options.trustedRoot !== undefined))
    throw usage("--tlog and --trusted-root do not go with --policy", "say it in the policy file");
  if (identity === undefined && options.certificateOidcIssuer !== undefined)
    throw usage("--certificate-oidc-issuer goes with --certificate-identity");
  const root =
    options.trustedRoot === undefined
      ? undefined
      : loadTrustedRoot({ bytes: await readSmallFile(options.trustedRoot, "trusted root", 8 << 20), source: options.trustedRoot });
  if (policy !== undefined) {
    return {
      kind: "policy",
      policy: parsePolicy({ bytes: await readSmallFile(policy, "policy"), source: policy }),
      subject: policySubject(name),
    };
  }
  if (key !== undefined) {
    return {
      kind: "keys",
      keys: [await publicKeyByName(shell, key)],
      log: (tlog ?? "if-present") as LogRule,
      ...(root === undefined ? {} : { logAnchors: { kind: "trusted-root", root } }),
    };
  }
  return certificateRequirement(options, root ?? (await publicGoodTrustedRoot()));
}

function certificateRequirement(options: VerifierOptions, root: TrustedRoot): SignatoryRequirement {
  const { certificateIdentity, certificateIdentityRegexp, certificateOidcIssuer, tlog = "required" } = options;
  if (certificateIdentity !== undefined && certificateIdentityRegexp !== undefined)
    throw usage("give --certificate-identity or --certificate-identity-regexp, not both");
  if (certificateOidcIssuer === undefined) throw usage("an identity needs its issuer", "give --certificate-oidc-issuer URL");
  const subject = certificateIdentity === undefined ? matchingWhole(certificateIdentityRegexp ?? "") : exactly(certificateIdentity);
  return {
    kind: "certificate",
    identity: { kind: "sigstore", subject, issuer: exactly(certificateOidcIssuer) },
    anchors: { kind: "trusted-root", root, certificateLog: "required" },
    log: tlog as LogRule,
    logAnchors: { kind: "trusted-root", root },
  };
}

/** An image's name as policies know it. */
export function policySubject(name: ImageName): PolicySubject {
  switch (name.transport) {
    case "docker": {
      const { digest, tag } = name;
      const suffix = digest === undefined ? `:${tag ?? "latest"}` : `@${digest}`;
      return { transport: "docker", reference: `${name.host}/${name.repository}${suffix}` };
    }
    case "oci":
    case "oci-archive":
    case "dir":
      return { transport: name.transport, path: resolve(name.path) };
    case "docker-archive":
      throw usage(`${formatImageName(name)} carries no signatures`, "verify it where it came from");
  }
}

/** The files of a registries.d folder. */
export async function readRegistriesD(folder: string): Promise<readonly { readonly bytes: Buffer; readonly source: string }[]> {
  const names = (await readdir(folder)).filter((name) => name.endsWith(".yaml")).toSorted();
  return Promise.all(
    names.map(async (name) => ({ bytes: await readSmallFile(join(folder, name), "registries.d file"), source: join(folder, name) })),
  );
}
