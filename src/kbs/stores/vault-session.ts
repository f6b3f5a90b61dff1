import { KbsError } from "../errors.ts";
import { memberAt } from "../protocol/shape.ts";
import { readCredential } from "./credential-file.ts";
import { JsonService, type JsonAnswer } from "./json-service.ts";

/** How to log in to Vault or OpenBao. Files are read again at each login: an agent or Kubernetes rotates them. */
export type VaultLogin =
  | { readonly kind: "token"; readonly token: string }
  | { readonly kind: "token-file"; readonly tokenFile: string }
  | { readonly kind: "approle"; readonly roleId: string; readonly secretId: string; readonly mount?: string | undefined }
  | { readonly kind: "approle-file"; readonly roleId: string; readonly secretIdFile: string; readonly mount?: string | undefined }
  | { readonly kind: "kubernetes"; readonly role: string; readonly tokenFile?: string | undefined; readonly mount?: string | undefined }
  | { readonly kind: "jwt"; readonly role: string; readonly jwtFile: string; readonly mount?: string | undefined };

export interface VaultConnection {
  /** `https://vault.example:8200`. */
  readonly url: string;
  readonly login: VaultLogin;
  /** Enterprise and OpenBao namespace. */
  readonly namespace?: string | undefined;
  readonly authorities?: string | undefined;
}

const serviceAccountToken = "/var/run/secrets/kubernetes.io/serviceaccount/token";
/** A token is renewed when less than this part of its life is left. */
const renewAtPart = 1 / 3;
/** A token of which nobody says how long it lives is looked at again after this time. */
const unknownLifeMs = 3_600_000;

interface HeldToken {
  readonly value: string;
  readonly renewAt: number;
  /** Of the token when it was new; renewals that give much less show that its end is near. */
  readonly leaseSeconds: number;
}

/**
 * Requests to Vault with a token that is kept fresh: renewed before its lease ends, replaced by a new login when it cannot
 * be renewed any further (a login may cost one of few uses of a secret id), and once when a request is refused.
 * Source: Vault HTTP API, "auth/token", "auth/approle", "auth/kubernetes", "auth/jwt".
 */
export class VaultSession {
  readonly service: JsonService;
  readonly #connection: VaultConnection;
  readonly #now: () => number;
  #token: HeldToken | undefined;
  #refreshing: Promise<string> | undefined;

  constructor(connection: VaultConnection, now: () => number = Date.now) {
    this.service = new JsonService({ url: connection.url, name: "Vault", authorities: connection.authorities });
    this.#connection = connection;
    this.#now = now;
  }

  /** `path` begins after `/v1/`. */
  async call(method: string, path: string, json?: unknown): Promise<JsonAnswer> {
    const token = await this.#freshToken();
    const answer = await this.#send(method, path, json, token);
    if (answer.status !== 403) return answer;
    // A revoked or expired token looks like a missing right: one login tells them apart. Another request may have logged in meanwhile.
    if (this.#token?.value === token) this.#token = undefined;
    const next = await this.#freshToken();
    const last = next === token ? answer : await this.#send(method, path, json, next);
    // Who gave us the token may put a good one there: that is waiting, and not a right that is missing.
    if (saysBadToken(last)) throw this.service.away("it does not take our token (status 403)");
    return last;
  }

  close(): Promise<void> {
    return this.service.close();
  }

  #send(method: string, path: string, json: unknown, token: string | undefined): Promise<JsonAnswer> {
    const { namespace } = this.#connection;
    const headers = {
      "x-vault-request": "true",
      ...(token === undefined ? {} : { "x-vault-token": token }),
      ...(namespace === undefined ? {} : { "x-vault-namespace": namespace }),
    };
    return this.service.call(method, `/v1/${path}`, { headers, ...(json === undefined ? {} : { json }) });
  }

  async #freshToken(): Promise<string> {
    const held = this.#token;
    if (held !== undefined && this.#now() < held.renewAt) return held.value;
    this.#refreshing ??= this.#refresh(held).finally(() => {
      this.#refreshing = undefined;
    });
    return this.#refreshing;
  }

  /** Renews the token at hand; what cannot be renewed is replaced. */
  async #refresh(held: HeldToken | undefined): Promise<string> {
    const renewed = held === undefined ? undefined : await this.#renew(held.value);
    // Near the end of its longest life a token is renewed by less and less.
    if (held !== undefined && renewed !== undefined && renewed >= held.leaseSeconds * renewAtPart)
      return this.#hold(held.value, renewed, held.leaseSeconds);
    return this.#logIn(this.#connection.login);
  }

  /** The lease that a renewal gives in seconds, 0 for one without an end; `undefined` when there was none. */
  async #renew(token: string): Promise<number | undefined> {
    const answer = await this.#send("POST", "auth/token/renew-self", {}, token);
    const lease = memberAt(answer.value, "auth", "lease_duration");
    return answer.status === 200 && typeof lease === "number" ? lease : undefined;
  }

  async #logIn(login: VaultLogin): Promise<string> {
    if (login.kind === "token" || login.kind === "token-file") {
      const token = login.kind === "token" ? login.token : await readCredential(login.tokenFile);
      // Who gave us the token may not have said that it ends; renewing it tells, and keeps it alive.
      const lease = await this.#renew(token);
      return this.#hold(token, lease ?? unknownLifeMs / 1000);
    }
    const { path, body } = await loginRequest(login);
    const answer = await this.#send("POST", path, body, undefined);
    const token = memberAt(answer.value, "auth", "client_token");
    const lease = memberAt(answer.value, "auth", "lease_duration");
    if (answer.status !== 200 || typeof token !== "string" || typeof lease !== "number") {
      if (answer.status >= 500) throw this.service.failed("log us in", answer);
      throw new KbsError("ERR_KBS_STORE_UNAVAILABLE", {
        message: `Vault refused the login (status ${answer.status})`,
        hint: "check the role and its credentials",
      });
    }
    return this.#hold(token, lease);
  }

  #hold(value: string, lease: number, original = lease): string {
    // A lease of 0 never ends.
    const life = lease === 0 ? Number.MAX_SAFE_INTEGER : lease * 1000 * (1 - renewAtPart);
    this.#token = { value, renewAt: this.#now() + life, leaseSeconds: original };
    return value;
  }
}

/**
 * Both are 403 and `permission denied`. Of a token that ended or never was it is all of the answer, or newer Vaults add
 * `invalid token`; of a missing right it stands in a list of errors. Source: Vault and OpenBao, vault/request_handling.go.
 */
function saysBadToken({ status, value }: JsonAnswer): boolean {
  const errors = memberAt(value, "errors");
  return (
    status === 403 && Array.isArray(errors) && errors.some((error) => error === "permission denied" || /invalid token/.test(String(error)))
  );
}

type KnownLogin = Exclude<VaultLogin, { readonly kind: "token" | "token-file" }>;

async function loginRequest(login: KnownLogin): Promise<{ readonly path: string; readonly body: unknown }> {
  switch (login.kind) {
    case "approle":
      return { path: `auth/${login.mount ?? "approle"}/login`, body: { role_id: login.roleId, secret_id: login.secretId } };
    case "approle-file": {
      const secret = await readCredential(login.secretIdFile);
      return { path: `auth/${login.mount ?? "approle"}/login`, body: { role_id: login.roleId, secret_id: secret } };
    }
    case "kubernetes":
      return {
        path: `auth/${login.mount ?? "kubernetes"}/login`,
        body: { role: login.role, jwt: await readCredential(login.tokenFile ?? serviceAccountToken) },
      };
    case "jwt":
      return { path: `auth/${login.mount ?? "jwt"}/login`, body: { role: login.role, jwt: await readCredential(login.jwtFile) } };
  }
}
