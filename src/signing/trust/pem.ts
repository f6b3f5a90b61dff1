import { decodeBase64 } from "../../bytes/index.ts";

/** Certificates of a PEM text, DER. */
export function certificatesOf(pem: string): readonly Buffer[] {
  const blocks = pem.matchAll(/-----BEGIN CERTIFICATE-----([A-Za-z0-9+/=\s]+)-----END CERTIFICATE-----/g);
  return [...blocks].map(([, body = ""]) => decodeBase64(body.replace(/\s+/g, ""), "certificate"));
}
