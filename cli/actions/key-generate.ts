import { generateKeyPairSync, randomBytes } from "node:crypto";
import { generateCosignKeyPair } from "../../src/signing/index.ts";
import type { Action } from "../command.ts";
import { usage } from "../errors.ts";
import { writeWholeFile } from "../files.ts";
import { cosignPassword } from "../password.ts";
import type { Shell } from "../shell.ts";

interface Options {
  readonly out: string;
  readonly bits?: number;
  readonly curve?: string;
}

/** A private half, and a public half where there is one. */
interface MadeKey {
  readonly privateText: string | Uint8Array;
  readonly publicText?: string;
}

const curves: Readonly<Record<string, string>> = { "P-256": "prime256v1", "P-384": "secp384r1", "P-521": "secp521r1" };
const modulusLengths: ReadonlySet<number> = new Set([2048, 3072, 4096]);

const makers: Readonly<Record<string, (shell: Shell, options: Options) => Promise<MadeKey>>> = {
  cosign: async (shell, { out }) => {
    const pair = await generateCosignKeyPair({ password: await cosignPassword(shell, `${out}.key`)() });
    return { privateText: pair.privatePem, publicText: pair.publicPem };
  },
  rsa: async (_shell, { bits = 3072 }) => {
    if (!modulusLengths.has(bits)) throw usage(`--bits takes 2048, 3072 or 4096, not ${bits}`);
    return pem(generateKeyPairSync("rsa", { modulusLength: bits }));
  },
  ec: async (_shell, { curve = "P-256" }) => {
    const namedCurve = curves[curve];
    if (namedCurve === undefined) throw usage(`--curve takes P-256, P-384 or P-521, not ${curve}`);
    return pem(generateKeyPairSync("ec", { namedCurve }));
  },
  ed25519: async () => pem(generateKeyPairSync("ed25519")),
  kek: async () => ({ privateText: randomBytes(32) }),
};

function pem({ privateKey, publicKey }: Pick<ReturnType<typeof generateKeyPairSync>, "privateKey" | "publicKey">): MadeKey {
  return {
    privateText: privateKey.export({ format: "pem", type: "pkcs8" }),
    publicText: publicKey.export({ format: "pem", type: "spki" }).toString(),
  };
}

export const keyGenerate: Action<Options> = async (shell, [kind = ""], options) => {
  const make = Object.hasOwn(makers, kind) ? makers[kind] : undefined;
  if (make === undefined) throw usage(`${kind} is not a kind of key`, `choose one of ${Object.keys(makers).join(", ")}`);
  const { privateText, publicText } = await make(shell, options);
  const files = { privateKey: `${options.out}.key`, ...(publicText === undefined ? {} : { publicKey: `${options.out}.pub` }) };
  await writeWholeFile(files.privateKey, privateText, { mode: 0o600, exclusive: true });
  if (publicText !== undefined && files.publicKey !== undefined) await writeWholeFile(files.publicKey, publicText, { exclusive: true });
  await shell.result(Object.values(files).join("\n"), { kind, ...files });
};
