import { createHmac, randomBytes } from "node:crypto";
import { readFile, stat } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { describeCause } from "../errors/index.ts";
import { RegistryServerError } from "./errors.ts";
import type { Passwords } from "./passwords.ts";
import { Refusal } from "./refusal.ts";

/** What `htpasswd -B` and docker-registry's documentation make: `$2y$05$` and 53 characters. */
const hashGrammar = /^\$2[aby]\$(\d\d)\$[./A-Za-z0-9]{53}$/;
const nameGrammar = /^[^\p{Cc}:]{1,255}$/u;
const maxFileBytes = 1024 * 1024;
/** Each step doubles the work; 14 already takes a second, and everybody may make us do it. */
const maxCost = 14;
/** Checks that wait for their turn; who comes later is asked to come again. */
const maxWaiting = 32;
const cacheMs = 300_000;
const maxCached = 1000;

interface Loaded {
  readonly users: ReadonlyMap<string, string>;
  /** Changes with the file. */
  readonly stamp: string;
  /** Checked for a name that is not there, so that the time does not tell names. */
  readonly decoy: string;
}

/**
 * An Apache htpasswd file with bcrypt hashes, as docker-registry reads it; read again when it changes. A file that
 * cannot be read or holds anything else lets nobody in.
 *
 * Throws `ERR_REGISTRY_SERVER_OPTIONS`.
 */
export async function openHtpasswd(path: string): Promise<Passwords> {
  return new HtpasswdPasswords(path, await load(path));
}

class HtpasswdPasswords implements Passwords {
  readonly #path: string;
  readonly #key = randomBytes(32);
  #loaded: Loaded;
  /** What was right a moment ago, under a key that nobody knows: clients send the password with every request. */
  readonly #right = new Map<string, number>();
  #turn: Promise<unknown> = Promise.resolve();
  #waiting = 0;

  constructor(path: string, loaded: Loaded) {
    this.#path = path;
    this.#loaded = loaded;
  }

  async isPassword(name: string, password: string): Promise<boolean> {
    await this.#refresh();
    const key = createHmac("sha256", this.#key).update(`${name}\0${password}`).digest("hex");
    if ((this.#right.get(key) ?? 0) > Date.now()) return true;
    if (this.#waiting >= maxWaiting)
      throw new Refusal("TOOMANYREQUESTS", { message: "too many passwords are being checked", headers: { "retry-after": "2" } });
    const loaded = this.#loaded;
    const isRight = await this.#alone(() => check(loaded, name, password));
    if (isRight && loaded === this.#loaded) this.#remember(key);
    return isRight;
  }

  async versionOf(name: string): Promise<string | undefined> {
    await this.#refresh();
    return this.#loaded.users.get(name);
  }

  async #refresh(): Promise<void> {
    if ((await stampOf(this.#path)) === this.#loaded.stamp) return;
    this.#loaded = await load(this.#path);
    this.#right.clear();
  }

  /** One check at a time: it takes all of a processor that also has blobs to move. */
  async #alone(work: () => Promise<boolean>): Promise<boolean> {
    const mine = this.#turn.catch(() => undefined).then(work);
    this.#turn = mine;
    this.#waiting += 1;
    try {
      return await mine;
    } finally {
      this.#waiting -= 1;
    }
  }

  #remember(key: string): void {
    if (this.#right.size >= maxCached) this.#right.clear();
    this.#right.set(key, Date.now() + cacheMs);
  }
}

async function check({ users, decoy }: Loaded, name: string, password: string): Promise<boolean> {
  // Loaded only by registries that have such a file.
  const { compare } = await import("bcryptjs");
  const hash = users.get(name);
  const startedAt = Date.now();
  // bcrypt ends a password at the first NUL, so what follows would not be looked at.
  const matches = await compare(password.replaceAll("\0", "\u{fffd}"), hash ?? decoy);
  if (matches && hash !== undefined) return true;
  // Guesses get half of the processor at most.
  await sleep(Date.now() - startedAt);
  return false;
}

async function load(path: string): Promise<Loaded> {
  try {
    const stamp = await stampOf(path);
    const { size } = await stat(path);
    if (size > maxFileBytes) throw new Error(`it is larger than ${maxFileBytes} bytes`);
    const users = parseHtpasswd(await readFile(path, "utf8"));
    const [first = "$2y$10$"] = users.values();
    return { users, stamp, decoy: `${first.slice(0, 7)}${"a".repeat(53)}` };
  } catch (cause) {
    throw new RegistryServerError("ERR_REGISTRY_SERVER_OPTIONS", {
      message: `the password file ${path} cannot be used: ${describeCause(cause)}`,
      hint: "make its lines with htpasswd -B (bcrypt); other hashes are too weak",
      cause,
    });
  }
}

async function stampOf(path: string): Promise<string> {
  const { ino, size, mtimeNs } = await stat(path, { bigint: true });
  return `${ino} ${size} ${mtimeNs}`;
}

/** Lines `name:hash`; empty ones and those that begin with # are skipped. Never says what a line holds. */
function parseHtpasswd(text: string): ReadonlyMap<string, string> {
  const users = new Map<string, string>();
  for (const [i, raw] of text.split("\n").entries()) {
    const line = raw.trim();
    if (line === "" || line.startsWith("#")) continue;
    const colon = line.indexOf(":");
    const [name, hash] = [line.slice(0, Math.max(colon, 0)), line.slice(colon + 1)];
    if (!nameGrammar.test(name) || name === "*") throw new Error(`line ${i + 1} has no usable user name`);
    const cost = Number(hashGrammar.exec(hash)?.[1]);
    if (Number.isNaN(cost)) throw new Error(`line ${i + 1} has no bcrypt hash`);
    if (cost < 4 || cost > maxCost) throw new Error(`line ${i + 1} has a bcrypt cost of ${cost} (4 to ${maxCost} are accepted)`);
    if (users.has(name)) throw new Error(`line ${i + 1} has the same user as another one`);
    users.set(name, hash);
  }
  if (users.size === 0) throw new Error("it has no users");
  return users;
}
