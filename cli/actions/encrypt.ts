import { parseCipherSpelling, type CipherName, type Engine } from "../../src/cipher/index.ts";
import { parsePlatform } from "../../src/oci/index.ts";
import { encryptImage, parseLayerChoice, type LayerChoice } from "../../src/pipeline/index.ts";
import type { SignedImage } from "../../src/signing/index.ts";
import type { Action } from "../command.ts";
import { usage } from "../errors.ts";
import { readSmallFile } from "../files.ts";
import { overList, type FromFileOptions } from "../from-file.ts";
import { destinationFor, refuseDigest, betweenImages, type Images, type RegistryFlags } from "../images.ts";
import { showProgress } from "../progress.ts";
import { openRecipients, type RecipientOptions } from "../recipients.ts";
import { reportTable } from "../report-text.ts";
import { examineSource, type SourceOptions } from "../source-signatures.ts";
import { counted } from "../table.ts";

export interface EncryptOptions extends FromFileOptions, RegistryFlags, RecipientOptions, SourceOptions {
  readonly recipient?: readonly string[];
  readonly encryptionKey?: readonly string[];
  readonly cipher?: string;
  readonly platform?: readonly string[];
  readonly layer?: readonly string[];
  readonly encryptLayer?: readonly string[];
  readonly skipBase?: string;
  readonly signKey?: string;
  readonly stripHistory?: boolean;
  readonly convergent?: string;
  readonly pad?: boolean;
  readonly engine?: string;
  readonly dryRun?: boolean;
}

const encryptOne: Action<EncryptOptions> = async (shell, [source = "", destination = ""], options) => {
  const recipients = [...(options.recipient ?? []), ...(options.encryptionKey ?? [])];
  if (recipients.length === 0)
    throw usage("no recipient was named", "give at least one -r, for example -r jwe:team.pub or -r kbs:///default/app-key");
  if (options.pad === true && options.convergent !== undefined)
    throw usage("--pad does not go with --convergent", "equal layers could no longer be found equal before they are padded");
  const cipher = cipherOf(options);
  const engine = engineOf(options.engine);
  const platforms = (options.platform ?? []).map((text) => parsePlatform(text));
  const mode = options.dryRun === true ? "plan" : "write";
  const opened = await openRecipients(shell, recipients);
  const report = await betweenImages(shell, options, { source, destination }, async (images) => {
    const { image: from, root } = await images.resolve(source);
    const to = await images.open(destination, mode === "plan" ? "read" : "write").catch((error: unknown) => {
      // A plan may be made for a destination that does not exist yet.
      if (mode === "plan") return { ...from, digest: undefined };
      throw error;
    });
    refuseDigest(to);
    const layers = await layerChoice(images, options, shell.signal);
    const signer =
      options.signKey === undefined ? undefined : await (await import("../sign-sealed.ts")).openResultSigner(shell, options.signKey);
    const origin = await examineSource(shell, { store: from.store, name: from.name, root }, options);
    const { wrappers, registered } = await opened.prepare(options, mode);
    const progress = await showProgress(shell);
    let signatures: readonly SignedImage[] = [];
    try {
      const done = await encryptImage(
        {
          from: from.store,
          root,
          to: {
            store: destinationFor(from, to),
            reference: to.reference,
            beforeTag: async (target, sealed) => {
              const referrers = await origin.carry(to.store, target);
              if (signer === undefined) return;
              signatures = await signer.sign(to.store, to.name, target);
              const { sealFacts } = await import("../seal-facts.ts");
              await signer.attest(to.store, to.name, target, { ...sealFacts(root, sealed, wrappers, origin.signatures), referrers });
            },
          },
          cipher,
          wrappers,
          layers,
          platforms,
          engine,
          mode,
          profile: options.profile === "coco" || options.profile === "ocicrypt" ? options.profile : undefined,
          padding: options.pad === true ? "padme" : "none",
          history: options.stripHistory === true ? "strip" : "keep",
          convergentSecret: options.convergent === undefined ? undefined : await readSmallFile(options.convergent, "convergent secret"),
          ...(options.concurrency === undefined ? {} : { concurrency: options.concurrency }),
          onProgress: progress.onProgress,
        },
        { signal: shell.signal },
      );
      return {
        ...done,
        keys: registered,
        signatures: signatures.map(({ target, keyFingerprint }) => ({ digest: target.digest, keyFingerprint })),
      };
    } finally {
      progress.stop();
    }
  });
  if (options.skipBase !== undefined && report.layers.every(({ outcome }) => outcome === "encrypted"))
    shell.note(`no layer of ${options.skipBase} is in ${source}: every layer is encrypted`);
  const keys = report.keys.map(({ uri, outcome, proof }) => `key ${uri}: ${outcome} (${proof})`);
  const signed = report.signatures.length === 0 ? [] : [`signed ${counted(report.signatures.length, "manifest")}`];
  const last = mode === "plan" ? "dry run: nothing was written" : `${destination} is now ${report.result.digest}`;
  await shell.result([reportTable(report, shell.stdout.columns), ...keys, ...signed, last].join("\n"), report);
};

export const encrypt = overList(encryptOne, { command: "encrypt", names: ["SOURCE", "DESTINATION"], required: 2 });

function cipherOf({ cipher, profile }: EncryptOptions): CipherName {
  if (profile !== undefined && profile !== "coco" && profile !== "ocicrypt")
    throw usage(`--profile takes ocicrypt or coco, not ${profile}`);
  if (profile === undefined) return parseCipherSpelling(cipher ?? "aes-256-gcm");
  const wanted = parseCipherSpelling(cipher ?? "aes-256-ctr-hmac-sha256");
  if (wanted !== "AES_256_CTR_HMAC_SHA256")
    throw usage(`--profile ${profile} needs --cipher aes-256-ctr-hmac-sha256: its readers open nothing else`);
  return wanted;
}

export function engineOf(text: string | undefined): Engine {
  if (text === undefined || text === "node" || text === "noble") return text ?? "node";
  throw usage(`--engine takes node or noble, not ${text}`);
}

async function layerChoice(
  images: Images,
  { layer = [], encryptLayer = [], skipBase }: EncryptOptions,
  signal: AbortSignal,
): Promise<LayerChoice> {
  const listed = [...layer, ...encryptLayer];
  if (skipBase === undefined) return parseLayerChoice(listed);
  if (listed.length > 0) throw usage("--layer and --skip-base do not go together");
  const { imagesOf, readImageTree } = await import("../../src/pipeline/index.ts");
  const { image, root } = await images.resolve(skipBase);
  const tree = await readImageTree({ store: image.store, root }, { signal });
  return { kind: "except", digests: new Set(imagesOf(tree).flatMap(({ manifest }) => manifest.layers.map(({ digest }) => digest))) };
}
