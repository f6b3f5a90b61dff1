import { RegistryTransport } from "../src/registry/index.ts";
import type { RegistryAccess } from "../src/transport/index.ts";
import { readSmallFile } from "./files.ts";
import type { RegistryFlags } from "./images.ts";
import { certsDirsOf, credentialsOf, registriesConfOf } from "./registry-config.ts";
import type { Shell } from "./shell.ts";
import { readVersion } from "./version.ts";

/** What reaching registries takes, as the flags and the user's files say; its modules are among the heaviest there are. */
export async function openRegistryAccess(shell: Shell, flags: RegistryFlags): Promise<RegistryAccess> {
  const { tlsCa, tlsClientCert, tlsClientKey, plainHttp, concurrency, limitRate } = flags;
  const credentials = credentialsOf(shell.env, flags.credsFile);
  const registriesConf = await registriesConfOf(shell.env);
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
          shell.note(`${notice.host}: trying again ${inSeconds(notice.waitMs)} (${notice.reason})`);
          break;
        case "mirror-failed":
          shell.note(`mirror ${notice.host}: ${notice.reason}`);
          break;
      }
    },
  });
  return { transport, credentials, registriesConf };
}

function inSeconds(waitMs: number): string {
  const seconds = Math.round(waitMs / 100) / 10;
  return seconds === 0 ? "at once" : `in ${seconds} s`;
}
