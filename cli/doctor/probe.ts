import { request as plainRequest } from "node:http";
import { request as tlsRequest } from "node:https";
import { rootCertificates, TLSSocket } from "node:tls";

/** A server's first answer. */
export interface Answer {
  readonly status: number;
  readonly body: string;
  /** The `Date` header, if it is one. */
  readonly date: Date | undefined;
  readonly contentType: string;
  /** When the server's certificate ends. */
  readonly certificateEnd: Date | undefined;
  /** Whether plain HTTP was spoken. */
  readonly scheme: "http" | "https";
}

export interface ProbeSettings {
  readonly authorities: string | undefined;
  readonly signal: AbortSignal;
}

const timeoutMs = 10_000;
const maxBody = 64 * 1024;

/** One GET, without redirects, retries or credentials. Throws Node's own errors. */
export function probe(url: URL, { authorities, signal }: ProbeSettings): Promise<Answer> {
  const options = {
    signal: AbortSignal.any([signal, AbortSignal.timeout(timeoutMs)]),
    headers: { accept: "application/json, application/vnd.oci.image.index.v1+json" },
    agent: false as const,
  };
  const scheme = url.protocol === "http:" ? "http" : "https";
  return new Promise((resolve, reject) => {
    const request =
      scheme === "http"
        ? plainRequest(url, options)
        : tlsRequest(url, { ...options, ...(authorities === undefined ? {} : { ca: [...rootCertificates, authorities] }) });
    request.once("error", reject);
    request.once("response", (response) => {
      const date = new Date(response.headers.date ?? "");
      const end = response.socket instanceof TLSSocket ? new Date(response.socket.getPeerCertificate().valid_to) : undefined;
      let body = "";
      response.setEncoding("utf8");
      response.on("data", (chunk: string) => {
        body += chunk;
        if (body.length > maxBody) response.destroy(new Error("the answer is too long"));
      });
      response.once("error", reject);
      response.once("end", () =>
        resolve({
          status: response.statusCode ?? 0,
          body,
          date: Number.isNaN(date.getTime()) ? undefined : date,
          contentType: response.headers["content-type"] ?? "",
          certificateEnd: end === undefined || Number.isNaN(end.getTime()) ? undefined : end,
          scheme,
        }),
      );
    });
    request.end();
  });
}

const loopback = /^(localhost|127(\.\d{1,3}){3}|\[::1\]|::1)$/;

export function isLoopback(url: URL): boolean {
  return loopback.test(url.hostname);
}

/** What to do about a server that does not answer, by Node's code. */
export function fixOf(code: string | undefined, who: string): string {
  if (code === "ECONNREFUSED") return `nothing listens there; check the port and whether ${who} runs`;
  if (code === "ENOTFOUND" || code === "EAI_AGAIN") return "that name is not known; check its spelling and your DNS";
  if (code === undefined) return `check the network between here and ${who}`;
  if (/CERT|SELF_SIGNED|UNABLE_TO|ALTNAME/.test(code)) return `give the authority that signed the certificate of ${who} with --tls-ca FILE`;
  if (/SSL|TLS|EPROTO/.test(code)) return "it does not speak TLS there; check scheme and port";
  return `check the network between here and ${who}`;
}
