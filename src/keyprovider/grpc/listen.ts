import { chmod, lstat, unlink } from "node:fs/promises";
import { connect, isIP, type AddressInfo, type Server } from "node:net";
import { isLoopback } from "./loopback.ts";
import { KeyproviderError } from "../errors.ts";

/** Where a service is reached. */
export type ProviderAddress =
  | { readonly kind: "tcp"; readonly host: string; readonly port: number }
  | { readonly kind: "unix"; readonly path: string };

/** PEM. With `clientAuthorities` only callers with a certificate of theirs are served. */
export interface ProviderTls {
  readonly certificate: string | Uint8Array;
  readonly privateKey: string | Uint8Array;
  readonly clientAuthorities?: string | Uint8Array | undefined;
}

/**
 * Refuses to hand out keys to whoever is on the network: beyond loopback and sockets, callers must show a certificate.
 * Throws `ERR_KEYPROVIDER_LISTEN`.
 */
export function checkAddress(address: ProviderAddress, tls: ProviderTls | undefined): void {
  if (address.kind === "unix" || tls?.clientAuthorities !== undefined || isLoopback(address.host)) return;
  throw new KeyproviderError("ERR_KEYPROVIDER_LISTEN", {
    message: `a key provider on ${address.host} without client certificates would open layers for everybody who reaches it`,
    hint: "listen on 127.0.0.1 or on unix:PATH, or give --tls-cert, --tls-key and --tls-client-ca",
  });
}

/** Starts listening. Returns the address as gRPC clients write it. Throws `ERR_KEYPROVIDER_LISTEN` and system errors. */
export async function startListening(server: Server, address: ProviderAddress): Promise<string> {
  if (address.kind === "unix") await removeStaleSocket(address.path);
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    const done = (): void => {
      server.off("error", reject);
      resolve();
    };
    // Node makes the socket writable for its owner alone unless told otherwise; the umask decides about the rest.
    if (address.kind === "unix") server.listen({ path: address.path, readableAll: false, writableAll: false }, done);
    else server.listen({ host: address.host, port: address.port }, done);
  });
  if (address.kind === "unix") {
    await chmod(address.path, 0o600);
    return `unix://${address.path}`;
  }
  const { port } = server.address() as AddressInfo;
  return isIP(address.host) === 6 ? `[${address.host}]:${port}` : `${address.host}:${port}`;
}

/** A socket that nobody answers on was left by a service that crashed; anything else in its place is somebody's. */
async function removeStaleSocket(path: string): Promise<void> {
  const found = await lstat(path).catch((error: unknown) => {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return undefined;
    throw error;
  });
  if (found === undefined) return;
  if (!found.isSocket() || (await isAnswered(path))) {
    throw new KeyproviderError("ERR_KEYPROVIDER_LISTEN", {
      message: found.isSocket() ? `another service listens on ${path}` : `${path} exists and is not a socket`,
      hint: "stop it, or choose another path",
    });
  }
  await unlink(path);
}

function isAnswered(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path);
    const finish = (answered: boolean) => () => {
      socket.destroy();
      resolve(answered);
    };
    socket.once("connect", finish(true));
    socket.once("error", finish(false));
  });
}
