import { createHash, randomBytes } from "node:crypto";
import { equalBytes } from "../bytes/index.ts";

/** Knows whether a password is a user's. */
export interface Passwords {
  isPassword(name: string, password: string): Promise<boolean>;
  /** A text that changes when the user's password does; `undefined` for nobody. Not to be shown. */
  versionOf(name: string): Promise<string | undefined>;
}

/** Passwords as they are, for tests. Compared by hash, so that the time tells nothing. */
export function plainPasswords(users: Readonly<Record<string, string>>): Passwords {
  const salt = randomBytes(16);
  const hash = (text: string): Buffer => createHash("sha256").update(salt).update(text).digest();
  return {
    async isPassword(name, password) {
      const expected = Object.hasOwn(users, name) ? users[name] : undefined;
      return equalBytes(hash(password), hash(expected ?? "")) && expected !== undefined;
    },
    versionOf: async (name) => (Object.hasOwn(users, name) ? "for ever" : undefined),
  };
}
