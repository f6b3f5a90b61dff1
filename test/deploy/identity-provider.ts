import { generateKeyPairSync } from "node:crypto";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { exportJWK, SignJWT } from "jose";

/** An OpenID Connect provider of a pipeline's identity tokens on loopback, with its discovery document and its keys. */
export interface IdentityProvider {
  readonly issuer: string;
  /** Where a job asks for its token, and with what. */
  readonly requestUrl: string;
  readonly requestToken: string;
  /** Audiences that were asked for. */
  readonly asked: readonly string[];
  /** Tokens that were given out. */
  readonly given: readonly string[];
  token(audience: string): Promise<string>;
  /** Answers so many requests for tokens with 503 before it answers again. */
  failNext(count: number): void;
  close(): Promise<void>;
}

export async function startIdentityProvider(claims: Readonly<Record<string, unknown>>): Promise<IdentityProvider> {
  const { privateKey, publicKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
  const jwk = { ...(await exportJWK(publicKey)), kid: "ci-1", use: "sig", alg: "RS256" };
  const requestToken = "job-request-token";
  const asked: string[] = [];
  const given: string[] = [];
  let failures = 0;
  const server = createServer((request, response) => {
    void (async () => {
      const url = new URL(request.url ?? "/", issuer);
      const say = (status: number, body: unknown): void => {
        response.writeHead(status, { "content-type": "application/json" });
        response.end(JSON.stringify(body));
      };
      if (url.pathname === "/.well-known/openid-configuration") return say(200, { issuer, jwks_uri: `${issuer}/keys` });
      if (url.pathname === "/keys") return say(200, { keys: [jwk] });
      if (url.pathname !== "/token" || url.searchParams.get("api-version") !== "2.0") return say(404, {});
      if (request.headers.authorization !== `Bearer ${requestToken}`) return say(401, {});
      if (failures > 0) {
        failures -= 1;
        return say(503, {});
      }
      const audience = url.searchParams.get("audience") ?? "https://github.com/example";
      asked.push(audience);
      return say(200, { count: 1, value: await token(audience) });
    })();
  });
  await new Promise<void>((listening) => server.listen(0, "127.0.0.1", listening));
  const issuer = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;

  async function token(audience: string): Promise<string> {
    const made = await new SignJWT({ ...claims })
      .setProtectedHeader({ alg: "RS256", kid: "ci-1", typ: "JWT" })
      .setIssuer(issuer)
      .setAudience(audience)
      .setIssuedAt()
      .setNotBefore("-1m")
      .setExpirationTime("5m")
      .sign(privateKey);
    given.push(made);
    return made;
  }

  return {
    issuer,
    // As GitHub's: it has a query already.
    requestUrl: `${issuer}/token?api-version=2.0`,
    requestToken,
    asked,
    given,
    token,
    failNext: (count) => {
      failures = count;
    },
    close: () =>
      new Promise((done) => {
        server.close(() => done());
        server.closeAllConnections();
      }),
  };
}
