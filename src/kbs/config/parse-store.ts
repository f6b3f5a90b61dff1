import type { ConfigReader } from "./reader.ts";

/** How to log in to Vault; secrets are in files. */
export type VaultLoginConfig =
  | { readonly kind: "token"; readonly tokenFile: string }
  | { readonly kind: "approle"; readonly roleId: string; readonly secretIdFile: string; readonly mount: string | undefined }
  | { readonly kind: "kubernetes"; readonly role: string; readonly tokenFile: string | undefined; readonly mount: string | undefined }
  | { readonly kind: "jwt"; readonly role: string; readonly jwtFile: string; readonly mount: string | undefined };

export interface VaultConfig {
  readonly url: string;
  readonly login: VaultLoginConfig;
  readonly namespace: string | undefined;
  /** A file. */
  readonly authorities: string | undefined;
}

export type StoreConfig =
  | { readonly kind: "directory"; readonly path: string }
  | { readonly kind: "memory" }
  | {
      readonly kind: "postgresql";
      readonly url: string;
      readonly passwordFile: string | undefined;
      readonly table: string | undefined;
      readonly maxConnections: number | undefined;
      readonly authorities: string | undefined;
    }
  | ({ readonly kind: "vault"; readonly mount: string | undefined; readonly folder: string | undefined } & VaultConfig)
  | {
      readonly kind: "kubernetes";
      /** Left out in a pod: made of the environment that Kubernetes gives. */
      readonly url: string | undefined;
      readonly namespace: string | undefined;
      readonly tokenFile: string | undefined;
      readonly authorities: string | undefined;
      readonly instance: string | undefined;
    };

export type RootKeyConfig =
  | { readonly kind: "file"; readonly path: string; readonly ifMissing: "fail" | "create" }
  /** The value itself comes from the environment, read by the command line. */
  | { readonly kind: "environment"; readonly name: string }
  | ({ readonly kind: "vault-transit"; readonly key: string; readonly mount: string | undefined } & VaultConfig)
  | {
      readonly kind: "command";
      readonly id: string;
      readonly wrap: readonly string[];
      readonly unwrap: readonly string[];
      readonly environment: Readonly<Record<string, string>>;
    };

/** The `[store]` table. */
export function readStore(section: ConfigReader): StoreConfig {
  const store = storeOf(section, section.word("kind", ["directory", "memory", "postgresql", "vault", "kubernetes"], "required"));
  section.finish();
  return store;
}

function storeOf(section: ConfigReader, kind: StoreConfig["kind"]): StoreConfig {
  switch (kind) {
    case "directory":
      return { kind, path: section.text("path") };
    case "memory":
      return { kind };
    case "postgresql":
      return {
        kind,
        url: section.text("url"),
        passwordFile: section.optionalText("password_file"),
        table: section.optionalText("table"),
        maxConnections: section.optionalInteger("max_connections", 1, 1000),
        authorities: section.optionalText("authorities"),
      };
    case "vault":
      return { kind, ...readVault(section), mount: section.optionalText("mount"), folder: section.optionalText("folder") };
    case "kubernetes":
      return {
        kind,
        url: section.optionalText("url"),
        namespace: section.optionalText("namespace"),
        tokenFile: section.optionalText("token_file"),
        authorities: section.optionalText("authorities"),
        instance: section.optionalText("instance"),
      };
  }
}

/** One `[[root_keys]]` table; the first one wraps. */
export function readRootKey(section: ConfigReader): RootKeyConfig {
  const key = rootKeyOf(section, section.word("kind", ["file", "environment", "vault-transit", "command"], "required"));
  section.finish();
  return key;
}

function rootKeyOf(section: ConfigReader, kind: RootKeyConfig["kind"]): RootKeyConfig {
  switch (kind) {
    case "file":
      return { kind, path: section.text("path"), ifMissing: section.word("if_missing", ["fail", "create"], "first-by-default") };
    case "environment":
      return { kind, name: section.text("name") };
    case "vault-transit":
      return { kind, ...readVault(section), key: section.text("key"), mount: section.optionalText("mount") };
    case "command": {
      const command = {
        kind,
        id: section.text("id"),
        wrap: section.texts("wrap"),
        unwrap: section.texts("unwrap"),
        environment: section.textMap("environment"),
      };
      for (const name of ["wrap", "unwrap"] as const)
        if (command[name].length === 0) section.problem(name, "is missing (a program and its arguments)");
      return command;
    }
  }
}

function readVault(section: ConfigReader): VaultConfig {
  const login = section.section("login");
  const vault = {
    url: section.text("url"),
    login: readLogin(login),
    namespace: section.optionalText("namespace"),
    authorities: section.optionalText("authorities"),
  };
  login.finish();
  return vault;
}

function readLogin(login: ConfigReader): VaultLoginConfig {
  const kind = login.word("kind", ["token", "approle", "kubernetes", "jwt"], "required");
  switch (kind) {
    case "token":
      return { kind, tokenFile: login.text("token_file") };
    case "approle":
      return { kind, roleId: login.text("role_id"), secretIdFile: login.text("secret_id_file"), mount: login.optionalText("mount") };
    case "kubernetes":
      return { kind, role: login.text("role"), tokenFile: login.optionalText("token_file"), mount: login.optionalText("mount") };
    case "jwt":
      return { kind, role: login.text("role"), jwtFile: login.text("jwt_file"), mount: login.optionalText("mount") };
  }
}
