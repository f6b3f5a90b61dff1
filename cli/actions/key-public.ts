import { createPublicKey } from "node:crypto";
import { loadPrivateKey, publicPemOf } from "../../src/signing/index.ts";
import type { Action } from "../command.ts";
import { readSmallFile } from "../files.ts";
import { cosignPassword } from "../password.ts";

export const keyPublic: Action<object> = async (shell, [file = ""]) => {
  const key = await loadPrivateKey({ pem: await readSmallFile(file, "key"), source: file, password: cosignPassword(shell, file) });
  const publicKey = publicPemOf(createPublicKey(key));
  await shell.result(publicKey.trimEnd(), { publicKey });
};
