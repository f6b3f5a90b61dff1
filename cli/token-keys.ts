import { isPkcs11Config, parsePkcs11Config, parsePublicKey, type OaepToken, type RecipientKey } from "../src/keywrap/index.ts";
import { openPkcs11Oaep, type Pkcs11Oaep } from "../src/signing/index.ts";
import { usage } from "./errors.ts";
import { readSmallFile } from "./files.ts";
import type { Shell } from "./shell.ts";

/** The public key of a `pkcs11:` recipient: a public key file, or ocicrypt's YAML that names a key in a token. */
export async function tokenRecipient(shell: Shell, file: string): Promise<RecipientKey> {
  const bytes = await readSmallFile(file, "public key or token configuration");
  if (!isPkcs11Config(bytes)) return parsePublicKey(bytes, { name: file });
  const { name, spki } = await openToken(shell, file, bytes, undefined);
  return parsePublicKey(spki, { name });
}

/** A key in a token to open with; ocicrypt's YAML says which. */
export async function tokenToOpen(shell: Shell, file: string, pin: string | undefined): Promise<OaepToken> {
  const bytes = await readSmallFile(file, "token configuration");
  if (!isPkcs11Config(bytes)) {
    throw usage(
      `${file} does not name a key in a token`,
      "-k pkcs11:FILE takes the YAML of ocicrypt, whose pkcs11.uri names token, object and module",
    );
  }
  return openToken(shell, file, bytes, pin);
}

async function openToken(shell: Shell, file: string, bytes: Uint8Array, pin: string | undefined): Promise<Pkcs11Oaep> {
  const { uri, env } = await parsePkcs11Config(bytes, file);
  const access = {
    modulePath: shell.env["COSIGN_PKCS11_MODULE_PATH"],
    pin: pin ?? shell.env["COSIGN_PKCS11_PIN"],
    env: { PATH: shell.env["PATH"], SOFTHSM2_CONF: shell.env["SOFTHSM2_CONF"], ...env },
  };
  return openPkcs11Oaep(uri, access, { signal: shell.signal });
}
