import { exportCosignKeyPair, loadPrivateKey } from "../../src/signing/index.ts";
import type { Action } from "../command.ts";
import { readSmallFile, writeWholeFile } from "../files.ts";
import { cosignPassword } from "../password.ts";

interface Options {
  readonly out: string;
}

export const keyImport: Action<Options> = async (shell, [file = ""], { out }) => {
  const key = await loadPrivateKey({ pem: await readSmallFile(file, "key"), source: file, password: cosignPassword(shell, file) });
  const pair = await exportCosignKeyPair({ key, password: await cosignPassword(shell, `${out}.key`)() });
  const files = { privateKey: `${out}.key`, publicKey: `${out}.pub` };
  await writeWholeFile(files.privateKey, pair.privatePem, { mode: 0o600, exclusive: true });
  await writeWholeFile(files.publicKey, pair.publicPem, { exclusive: true });
  await shell.result(`${files.privateKey}\n${files.publicKey}`, { kind: "cosign", ...files });
};
