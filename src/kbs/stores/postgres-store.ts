import { describeCause } from "../../errors/index.ts";
import { KbsError } from "../errors.ts";
import { assertRecordKey } from "./record-key.ts";
import type { SecretStore, StoredRecord, WriteCondition } from "./secret-store.ts";

export interface PostgresOptions {
  /** `postgres://user@host:5432/database`; `sslmode` as libpq. */
  readonly connectionString: string;
  /** A password from a file or secret store, in place of one in the URL. */
  readonly password?: string | undefined;
  /** Table name; `ociseal_kbs_records` unless told. */
  readonly table?: string | undefined;
  /** Connections; 10 unless told. */
  readonly maxConnections?: number | undefined;
  /** PEM of the server's authority; with it the server's name is verified. */
  readonly authorities?: string | undefined;
}

/** The part of `pg` that is used. */
interface Pool {
  query(
    text: string,
    values?: readonly unknown[],
  ): Promise<{ readonly rows: readonly Readonly<Record<string, unknown>>[]; readonly rowCount: number | null }>;
  on(event: "error", listener: (error: Error) => void): void;
  end(): Promise<void>;
}

const connectTimeoutMs = 5_000;
const queryTimeoutMs = 10_000;

/**
 * A table in PostgreSQL, for several replicas. Needs the optional package `pg`.
 *
 * A write is one statement under the server's `synchronous_commit`; a revision is a number that never comes again, so a
 * record that was removed and made anew has another. Throws `ERR_KBS_PACKAGE_MISSING`, `ERR_KBS_STORE_UNAVAILABLE`.
 */
export async function openPostgresStore(options: PostgresOptions): Promise<SecretStore> {
  const table = options.table ?? "ociseal_kbs_records";
  if (!/^[a-z_][a-z0-9_]{0,62}$/.test(table))
    throw new KbsError("ERR_KBS_CONFIG_INVALID", { message: "a table name has letters, digits and _" });
  const pool = await openPool(options);
  const store = new PostgresStore(pool, table);
  try {
    await store.prepare();
  } catch (cause) {
    await pool.end();
    throw cause;
  }
  return store;
}

async function openPool(options: PostgresOptions): Promise<Pool> {
  let module: { readonly Pool: new (configuration: object) => Pool };
  try {
    module = (await import("pg")).default;
  } catch (cause) {
    throw new KbsError("ERR_KBS_PACKAGE_MISSING", { message: "the PostgreSQL store needs the package pg", hint: "npm install pg", cause });
  }
  const pool = new module.Pool({
    connectionString: options.connectionString,
    max: options.maxConnections ?? 10,
    connectionTimeoutMillis: connectTimeoutMs,
    query_timeout: queryTimeoutMs,
    statement_timeout: queryTimeoutMs,
    keepAlive: true,
    application_name: "ociseal-kbs",
    ...(options.password === undefined ? {} : { password: options.password }),
    ...(options.authorities === undefined ? {} : { ssl: { ca: options.authorities, rejectUnauthorized: true } }),
  });
  // An idle connection that breaks is replaced by the pool; without a listener it would end the process.
  pool.on("error", () => undefined);
  return pool;
}

class PostgresStore implements SecretStore {
  readonly name = "postgresql";
  readonly #pool: Pool;
  readonly #table: string;

  constructor(pool: Pool, table: string) {
    this.#pool = pool;
    this.#table = table;
  }

  /** Makes the table; two replicas that start at once may both try. Keys sort by bytes, whatever the database's locale. */
  async prepare(): Promise<void> {
    // One text, hence one connection and one transaction; the lock ends with it.
    await this.#query(
      `BEGIN;
       SELECT pg_advisory_xact_lock(hashtext('${this.#table}'));
       CREATE SEQUENCE IF NOT EXISTS ${this.#table}_revision;
       CREATE TABLE IF NOT EXISTS ${this.#table} (
         key text COLLATE "C" PRIMARY KEY,
         value bytea NOT NULL,
         revision bigint NOT NULL DEFAULT nextval('${this.#table}_revision'),
         changed_at timestamptz NOT NULL DEFAULT now());
       COMMIT`,
    );
  }

  async read(key: string): Promise<StoredRecord | undefined> {
    assertRecordKey(key);
    const [row] = (await this.#query(`SELECT value, revision FROM ${this.#table} WHERE key = $1`, [key])).rows;
    if (row === undefined) return undefined;
    const { value, revision } = row;
    if (!Buffer.isBuffer(value)) throw new KbsError("ERR_KBS_STORE_FAILED", { message: `the column value of ${this.#table} is not bytea` });
    return { bytes: value, revision: String(revision) };
  }

  async write(key: string, bytes: Uint8Array, condition: WriteCondition): Promise<{ readonly revision: string } | "conflict"> {
    assertRecordKey(key);
    const next = `nextval('${this.#table}_revision')`;
    const value = Buffer.from(bytes);
    const set = `value = excluded.value, revision = ${next}, changed_at = now()`;
    const insert = `INSERT INTO ${this.#table} (key, value) VALUES ($1, $2)`;
    const { rows } = await {
      any: () => this.#query(`${insert} ON CONFLICT (key) DO UPDATE SET ${set} RETURNING revision`, [key, value]),
      absent: () => this.#query(`${insert} ON CONFLICT (key) DO NOTHING RETURNING revision`, [key, value]),
      revision: () =>
        this.#query(
          `UPDATE ${this.#table} SET value = $2, revision = ${next}, changed_at = now() WHERE key = $1 AND revision = $3 RETURNING revision`,
          [key, value, condition.kind === "revision" ? condition.revision : ""],
        ),
    }[condition.kind]();
    const [row] = rows;
    return row === undefined ? "conflict" : { revision: String(row["revision"]) };
  }

  async remove(key: string, condition: WriteCondition): Promise<"removed" | "absent" | "conflict"> {
    assertRecordKey(key);
    const { rowCount } =
      condition.kind === "revision"
        ? await this.#query(`DELETE FROM ${this.#table} WHERE key = $1 AND revision = $2`, [key, condition.revision])
        : await this.#query(`DELETE FROM ${this.#table} WHERE key = $1 AND $2::boolean`, [key, condition.kind === "any"]);
    if ((rowCount ?? 0) > 0) return "removed";
    return (await this.read(key)) === undefined ? "absent" : "conflict";
  }

  async list(request: { readonly prefix: string; readonly after?: string | undefined; readonly limit: number }) {
    const { prefix, after = "", limit } = request;
    // "0" is the character after "/": the range holds exactly what begins with the prefix and a slash.
    const { rows } = await this.#query(
      `SELECT key FROM ${this.#table}
       WHERE ($1 = '' OR key = $1 OR (key >= $1 || '/' AND key < $1 || '0')) AND key > $2 ORDER BY key LIMIT $3`,
      [prefix, after, limit + 1],
    );
    const keys = rows.slice(0, limit).map((row) => String(row["key"]));
    return { keys, next: rows.length > limit ? keys.at(-1) : undefined };
  }

  async probe(): Promise<void> {
    await this.#query("SELECT 1");
  }

  close(): Promise<void> {
    return this.#pool.end();
  }

  async #query(text: string, values: readonly unknown[] = []) {
    try {
      return await this.#pool.query(text, values);
    } catch (cause) {
      throw failure(cause);
    }
  }
}

/** SQL state classes of a server that is away, starting, stopping, read-only or overloaded. Source: PostgreSQL, appendix A. */
const awayClasses = ["08", "53", "57", "58", "25"];

function failure(cause: unknown): KbsError {
  const state = (cause as { readonly code?: unknown }).code;
  // A missing state is a broken connection; a five-character one is the server's word.
  const away = typeof state !== "string" || !/^[0-9A-Z]{5}$/.test(state) || awayClasses.includes(state.slice(0, 2));
  return new KbsError(away ? "ERR_KBS_STORE_UNAVAILABLE" : "ERR_KBS_STORE_FAILED", {
    message: `PostgreSQL ${away ? "does not answer" : "refused a statement"}: ${describeCause(cause)}`,
    cause,
  });
}
