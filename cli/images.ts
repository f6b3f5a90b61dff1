import { formatImageName, parseImageName, type Descriptor, type ImageName } from "../src/oci/index.ts";
import { RegistryTransport, type CredentialSource, type RegistriesConf } from "../src/registry/index.ts";
import { openImage, type OpenedImage } from "../src/transport/index.ts";
import { readVersion } from "./version.ts";
import { usage } from "./errors.ts";
import { readSmallFile } from "./files.ts";
import { certsDirsOf, credentialsOf, registriesConfOf } from "./registry-config.ts";
import type { Shell } from "./shell.ts";

/** Flags of commands that talk to registries; all optional. */
export interface RegistryFlags {
  readonly credsFile?: string;
  readonly tlsCa?: string;
  readonly tlsClientCert?: string;
  readonly tlsClientKey?: string;
  readonly plainHttp?: readonly string[];
  readonly concurrency?: number;
  readonly limitRate?: number;
}

/** Opens the images of one command over one transport. */
export interface Images {
  readonly transport: RegistryTransport;
  readonly credentials: CredentialSource;
  readonly registriesConf: RegistriesConf;
  /** Parses and opens. */
  open(text: string, access: "read" | "write"): Promise<OpenedImage>;
  /** Opens for reading and resolves the name. */
  resolve(text: string): Promise<{ readonly image: OpenedImage; readonly root: Descriptor }>;
  /** Closes everything that was opened, stores first: an archive appears only now. */
  close(): Promise<void>;
}

export async function openImages(shell: Shell, flags: RegistryFlags): Promise<Images> {
  const { tlsCa, tlsClientCert, tlsClientKey, plainHttp, concurrency, limitRate } = flags;
  if ((tlsClientCert === undefined) !== (tlsClientKey === undefined)) throw usage("--tls-client-cert and --tls-client-key go together");
  requireNumber("--concurrency", concurrency, 1);
  requireNumber("--limit-rate", limitRate, 1);
  const transport = new RegistryTransport({
    scheme: "http-on-loopback",
    plainHttpHosts: plainHttp,
    ...(tlsCa === undefined ? {} : { ca: [await readSmallFile(tlsCa, "certificate")] }),
    ...(tlsClientCert === undefined || tlsClientKey === undefined
      ? {}
      : { clientCertificate: { cert: await readSmallFile(tlsClientCert, "certificate"), key: await readSmallFile(tlsClientKey, "key") } }),
    certsDirs: certsDirsOf(shell.env),
    proxy: {
      https: shell.env["HTTPS_PROXY"] ?? shell.env["https_proxy"],
      http: shell.env["HTTP_PROXY"] ?? shell.env["http_proxy"],
      noProxy: shell.env["NO_PROXY"] ?? shell.env["no_proxy"],
    },
    concurrency,
    limitRate,
    userAgent: `ociseal/${readVersion()}`,
    onNotice: (notice) => {
      switch (notice.kind) {
        case "warning":
          shell.warn(`${notice.host}: ${notice.text}`);
          break;
        case "retry":
          shell.note(`${notice.host}: trying again in ${Math.round(notice.waitMs / 100) / 10} s (${notice.reason})`);
          break;
        case "mirror-failed":
          shell.note(`mirror ${notice.host}: ${notice.reason}`);
          break;
      }
    },
  });
  const credentials = credentialsOf(shell.env, flags.credsFile);
  const registriesConf = await registriesConfOf(shell.env);
  const opened: OpenedImage[] = [];
  const images: Images = {
    transport,
    credentials,
    registriesConf,
    async open(text, access) {
      const image = await openImage(parseImageName(text), { access, transport, credentials, registriesConf, signal: shell.signal });
      opened.push(image);
      return image;
    },
    async resolve(text) {
      const image = await images.open(text, "read");
      return { image, root: await image.store.resolve(image.reference, { signal: shell.signal }) };
    },
    async close() {
      try {
        for (const image of opened.splice(0)) await image.store.close();
      } finally {
        await transport.close();
      }
    },
  };
  return images;
}

/** Runs work on images and closes them; a failure to close is a failure of the work. */
export async function withImages<Result>(shell: Shell, flags: RegistryFlags, work: (images: Images) => Promise<Result>): Promise<Result> {
  const images = await openImages(shell, flags);
  let result: Result;
  try {
    result = await work(images);
  } catch (error) {
    await images.close().catch(() => undefined);
    throw error;
  }
  await images.close();
  return result;
}

/** Refuses numbers that a flag's parser could not read. */
export function requireNumber(flag: string, value: number | undefined, min: number): void {
  if (value === undefined || (Number.isSafeInteger(value) && value >= min)) return;
  throw usage(`${flag} takes a whole number of at least ${min}`);
}

/** `HOST/REPOSITORY` as signatures name it; for other transports the name as given. */
export function repositoryOf(name: ImageName): string {
  return name.transport === "docker" ? `${name.host}/${name.repository}` : formatImageName(name);
}
