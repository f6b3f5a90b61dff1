import { credentialsFromFiles, RegistryTransport, type TrustedRealm } from "../src/registry/index.ts";
import type { RegistryAccess } from "../src/transport/index.ts";
import { usage } from "./errors.ts";
import { readSmallFile } from "./files.ts";
import type { RegistryFlags } from "./images.ts";
import { certsDirsOf, credentialFiles, registriesConfOf } from "./registry-config.ts";
import type { Shell } from "./shell.ts";
import { readVersion } from "./version.ts";

/** What reaching registries takes, as the flags and the user's files say; its modules are among the heaviest there are. */
export async function openRegistryAccess(shell: Shell, flags: RegistryFlags): Promise<RegistryAccess> {
  const { tlsCa, tlsClientCert, tlsClientKey, plainHttp, allowRealm = [], concurrency, limitRate } = flags;
  const files = credentialFiles(shell.env, flags.credsFile);
  const registriesConf = await registriesConfOf(shell.env);
  const transport = new RegistryTransport({
    scheme: "http-on-loopback",
    plainHttpHosts: plainHttp,
    ...(tlsCa === undefined ? {} : { ca: [await readSmallFile(tlsCa, "certificate")] }),
    ...(tlsClientCert === undefined || tlsClientKey === undefined
      ? {}
      : { clientCertificate: { cert: await readSmallFile(tlsClientCert, "certificate"), key: await readSmallFile(tlsClientKey, "key") } }),
    certsDirs: certsDirsOf(shell.env),
    trustedRealms: allowRealm.map(parsePair),
    credentialPlaces: files.map(({ path }) => path),
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
          shell.note(`${notice.host}: trying again ${inSeconds(notice.waitMs)} (${notice.reason})`);
          break;
        case "mirror-failed":
          shell.note(`mirror ${notice.host}: ${notice.reason}`);
          break;
      }
    },
  });
  return { transport, credentials: credentialsFromFiles(files), registriesConf };
}

/** `REGISTRY=HOST`, each with a port where it is not the usual one. */
function parsePair(text: string): TrustedRealm {
  const [registry, realm] = /^([^=/@\s]+)=([^=/@\s]+)$/.exec(text)?.slice(1) ?? [];
  if (registry !== undefined && realm !== undefined) return { registry, realm };
  throw usage(`--allow-realm takes REGISTRY=HOST, not ${text}`, "for example --allow-realm registry.example.com=auth.example.com");
}

function inSeconds(waitMs: number): string {
  const seconds = Math.round(waitMs / 100) / 10;
  return seconds === 0 ? "at once" : `in ${seconds} s`;
}
