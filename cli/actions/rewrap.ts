import { LayerError } from "../../src/layer/index.ts";
import { parsePlatform, type Descriptor } from "../../src/oci/index.ts";
import type { ContentStore } from "../../src/store/index.ts";
import { describeImage, rewrapImage } from "../../src/pipeline/index.ts";
import { parsePublicKey, parsePrivateKey, normalizeKbsUri, isKbsUri, type RecipientDescription } from "../../src/keywrap/index.ts";
import type { Action } from "../command.ts";
import { usage } from "../errors.ts";
import { readSmallFile } from "../files.ts";
import { overList, type FromFileOptions } from "../from-file.ts";
import { destinationFor, refuseDigest, betweenImages, type RegistryFlags } from "../images.ts";
import { connectAdmin, type KbsOptions } from "../kbs-connection.ts";
import { openKeys } from "../open-keys.ts";
import { withProgress } from "../progress.ts";
import { prepareRecipients } from "../recipients.ts";
import { reportTable } from "../report-text.ts";
import { kbsKeysOf, requireKeys, rotateKeys, serverSideReplacer } from "../rotation.ts";

interface RewrapOptions extends FromFileOptions, RegistryFlags, KbsOptions {
  readonly key?: readonly string[];
  readonly decryptionKey?: readonly string[];
  readonly add?: readonly string[];
  readonly remove?: readonly string[];
  readonly platform?: readonly string[];
  readonly signKey?: string;
  readonly dryRun?: boolean;
  readonly rotate?: boolean;
  readonly serverSide?: boolean;
  readonly disableOld?: boolean;
  readonly sourceKey?: string;
  readonly sourcePolicy?: string;
  readonly fromFile?: string;
}

const rewrapOne: Action<RewrapOptions> = async (shell, [name = "", destination], options) => {
  const add = options.add ?? [];
  const remove = await Promise.all((options.remove ?? []).map(removalOf));
  const { rotate = false, serverSide = false, disableOld = false } = options;
  const changes = add.length > 0 || remove.length > 0;
  if (!changes && !rotate && !serverSide)
    throw usage("nothing to change", "give --add RECIPIENT, --remove RECIPIENT|KEY-ID, --rotate or --server-side");
  if (changes && serverSide) throw usage("--server-side does not go with --add and --remove", "the KBS only re-wraps what is there");
  if (disableOld && !rotate) throw usage("--disable-old goes with --rotate");
  if (disableOld && (options.fromFile !== undefined || (options.platform ?? []).length > 0)) {
    throw usage(
      "--disable-old does not go with --from-file and --platform",
      "other images or platforms may still need the old version; disable it with ociseal kbs key disable when all are done",
    );
  }
  const { sourceKey, sourcePolicy } = options;
  if (options.signKey !== undefined && sourceKey === undefined && sourcePolicy === undefined) {
    throw usage(
      "--sign-key would sign an image that nobody checked",
      "give --source-key FILE or --source-policy FILE: who must have signed what is rewrapped",
    );
  }
  const mode = options.dryRun === true ? "plan" : "write";
  const platforms = (options.platform ?? []).map((text) => parsePlatform(text));
  const report = await betweenImages(shell, options, { source: name, destination: destination ?? name }, async (images) => {
    const { image: from, root } = await images.resolve(name);
    const to = await images.open(destination ?? name, mode === "plan" ? "read" : "write").catch((error: unknown) => {
      if (mode === "plan") return { ...from, digest: undefined };
      throw error;
    });
    if (destination !== undefined) refuseDigest(to);
    if (sourceKey !== undefined || sourcePolicy !== undefined) {
      const { verifySource } = await import("../verify-source.ts");
      await verifySource(shell, { store: from.store, name: from.name, root }, { sourceKey, sourcePolicy });
    }
    await requireRecipients(from.store, root, remove, shell.signal);
    const signer =
      options.signKey === undefined ? undefined : await (await import("../sign-sealed.ts")).openResultSigner(shell, options.signKey);
    const { noteLeftBehind, renewedFacts, sealToRenew } = await import("../reseal.ts");
    const named = {
      ...(sourceKey === undefined ? {} : { key: sourceKey }),
      ...(sourcePolicy === undefined ? {} : { policy: sourcePolicy }),
    };
    const seal = signer === undefined ? undefined : await sealToRenew(shell, { store: from.store, name: from.name, root }, named);
    const admin = rotate || serverSide ? await connectAdmin(shell, options) : undefined;
    const kbsKeys = rotate || serverSide ? await kbsKeysOf(from.store, root, shell.signal) : new Set<string>();
    const wrapping = serverSide ? "at-the-kbs" : "here";
    const keys = await openKeys(shell, [...(options.key ?? []), ...(options.decryptionKey ?? [])], options);
    try {
      // A version that nothing is wrapped under would stay behind when no key at hand opens the image.
      if (rotate && !serverSide && mode === "write")
        await requireKeys({ from: from.store, root, unwrappers: keys.unwrappers, platforms }, shell.signal);
      const rotation = admin !== undefined && rotate ? await rotateKeys(admin, { keys: kbsKeys, wrapping, mode }, shell.signal) : undefined;
      const { wrappers, registered } = await prepareRecipients(shell, add, options, mode);
      const done = await withProgress(shell, (onProgress) =>
        rewrapImage(
          {
            from: destination === undefined ? to.store : from.store,
            root,
            to: {
              store: destination === undefined ? to.store : destinationFor(from, to),
              reference: to.reference,
              beforeTag: async (target, layers) => {
                if (signer === undefined) return;
                await signer.sign(to.store, to.name, target);
                if (seal === undefined) return;
                const facts = await renewedFacts({ seal, from: from.store, to: to.store, target, layers }, { signal: shell.signal });
                await signer.attest(to.store, to.name, target, facts);
              },
            },
            unwrappers: keys.unwrappers,
            add: wrappers,
            addFor: rotation?.addFor,
            replace:
              admin !== undefined && serverSide ? serverSideReplacer(admin, mode === "plan" ? rotation?.fresh : undefined) : undefined,
            remove: (recipient) => {
              if (rotation?.removes(recipient) === true) return "remove";
              return remove.some((removal) => means(removal, recipient)) ? "remove" : "keep";
            },
            platforms,
            mode,
            onProgress,
          },
          { signal: shell.signal },
        ),
      );
      if (signer === undefined && done.layers.some(({ outcome }) => outcome === "rewrapped"))
        await noteLeftBehind(shell, { store: from.store, root });
      const disabled = disableOld ? ((await rotation?.disableOld(done.removed)) ?? []) : [];
      return { ...done, keys: registered, rotated: rotate ? [...kbsKeys] : [], disabled };
    } finally {
      await keys.close();
      await admin?.close();
    }
  });
  const say = (would: string, did: string, what: string): string => `${mode === "plan" ? `would ${would}` : did} ${what}`;
  const removed = report.removed.map((recipient) => say("remove", "removed", describeRecipient(recipient)));
  const rotated = report.rotated.map((key) => say("rotate", "rotated", key));
  const disabled = report.disabled.map(({ key, version }) => say("disable", "disabled", `version ${version} of ${key}`));
  const last = mode === "plan" ? "dry run: nothing was written" : `${destination ?? name} is now ${report.result.digest}`;
  await shell.result([reportTable(report, shell.stdout.columns), ...rotated, ...removed, ...disabled, last].join("\n"), report);
};

export const rewrap = overList(rewrapOne, { command: "rewrap", names: ["IMAGE", "DESTINATION"], required: 1 });

/** A removal that removes nobody is a mistake that somebody relies on. Throws `ERR_LAYER_RECIPIENT_NOT_FOUND`. */
async function requireRecipients(store: ContentStore, root: Descriptor, removals: readonly Removal[], signal: AbortSignal): Promise<void> {
  if (removals.length === 0) return;
  const { platforms } = await describeImage({ store, root }, { signal });
  const recipients = platforms.flatMap(({ layers }) => layers.flatMap(({ encryption }) => encryption?.recipients ?? []));
  for (const removal of removals) {
    if (recipients.some((recipient) => means(removal, recipient))) continue;
    throw new LayerError("ERR_LAYER_RECIPIENT_NOT_FOUND", {
      message: `${removal.text} is not among the recipients of ${store.name}`,
      hint: "ociseal inspect lists them; nothing was changed",
    });
  }
}

interface Removal {
  readonly text: string;
  readonly ids: readonly string[];
  /** Those of this scheme that have no ID: keys in tokens, and JWEs of tools that name nobody (skopeo). */
  readonly unnamed?: string;
}

function means({ ids, unnamed }: Removal, { id, scheme }: RecipientDescription): boolean {
  return id === undefined ? scheme === unnamed : ids.includes(id);
}

/** A recipient as for `-r`, the ID that `inspect` shows, or `SCHEME:?` as the report writes those that have none. */
async function removalOf(text: string): Promise<Removal> {
  if (text.endsWith(":?")) return { text, ids: [], unnamed: text.slice(0, -2) };
  if (isKbsUri(text)) return { text, ids: [normalizeKbsUri(text)] };
  if (!text.startsWith("jwe:") && !/[./]/.test(text)) return { text, ids: [text] };
  const file = text.replace(/^jwe:/, "").split(";")[0] ?? "";
  const bytes = await readSmallFile(file, "key").catch((error: unknown) => {
    if (!text.startsWith("jwe:") && error instanceof Error && "code" in error && error.code === "ENOENT") return undefined;
    throw error;
  });
  if (bytes === undefined) return { text, ids: [text] };
  const isPrivate = bytes.includes("PRIVATE KEY");
  const key = isPrivate ? parsePrivateKey(bytes, { name: file }) : parsePublicKey(bytes, { name: file });
  return { text, ids: [key.thumbprint] };
}

function describeRecipient({ scheme, id }: RecipientDescription): string {
  return `${scheme}:${id ?? "?"}`;
}
