import { readFile } from "node:fs/promises";
import { KbsError } from "../errors.ts";
import { memberAt } from "../protocol/shape.ts";
import { JsonService, type JsonAnswer } from "./json-service.ts";

/** How to log in to Vault or OpenBao. */
export type VaultLogin =
  | { readonly kind: "token"; readonly token: string }
  | { readonly kind: "approle"; readonly roleId: string; readonly secretId: string; readonly mount?: string | undefined }
  /** The service account token is read again at each login: Kubernetes rotates it. */
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
/** A token is replaced when less than this part of its life is left. */
const renewAtPart = 1 / 3;

/**
 * Requests to Vault with a token that is kept fresh: a new login before the lease ends, and once more when a request is
 * refused. Source: Vault HTTP API, "auth/approle", "auth/kubernetes", "auth/jwt".
 */
export class VaultSession {
  readonly service: JsonService;
  readonly #connection: VaultConnection;
  readonly #now: () => number;
  #token: { readonly value: string; readonly renewAt: number } | undefined;
  #login: Promise<string> | undefined;

  constructor(connection: VaultConnection, now: () => number = Date.now) {
    this.service = new JsonService({ url: connection.url, name: "Vault", authorities: connection.authorities });
    this.#connection = connection;
    this.#now = now;
  }

  /** `path` begins after `/v1/`. */
  async call(method: string, path: string, json?: unknown): Promise<JsonAnswer> {
    const answer = await this.#send(method, path, json, await this.#freshToken());
    if (answer.status !== 403 || this.#connection.login.kind === "token") return answer;
    // A revoked or expired token looks like a missing right: one login tells them apart.
    this.#token = undefined;
    return this.#send(method, path, json, await this.#freshToken());
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
    const { login } = this.#connection;
    if (login.kind === "token") return login.token;
    if (this.#token !== undefined && this.#now() < this.#token.renewAt) return this.#token.value;
    this.#login ??= this.#logIn(login).finally(() => {
      this.#login = undefined;
    });
    return this.#login;
  }

  async #logIn(login: Exclude<VaultLogin, { kind: "token" }>): Promise<string> {
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
    // A lease of 0 never ends.
    const life = lease === 0 ? Number.MAX_SAFE_INTEGER : lease * 1000 * (1 - renewAtPart);
    this.#token = { value: token, renewAt: this.#now() + life };
    return token;
  }
}

async function loginRequest(login: Exclude<VaultLogin, { kind: "token" }>): Promise<{ readonly path: string; readonly body: unknown }> {
  const read = async (file: string) => (await readFile(file, "utf8")).trim();
  switch (login.kind) {
    case "approle":
      return { path: `auth/${login.mount ?? "approle"}/login`, body: { role_id: login.roleId, secret_id: login.secretId } };
    case "kubernetes":
      return {
        path: `auth/${login.mount ?? "kubernetes"}/login`,
        body: { role: login.role, jwt: await read(login.tokenFile ?? serviceAccountToken) },
      };
    case "jwt":
      return { path: `auth/${login.mount ?? "jwt"}/login`, body: { role: login.role, jwt: await read(login.jwtFile) } };
  }
}
