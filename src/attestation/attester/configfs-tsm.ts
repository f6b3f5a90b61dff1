import { randomUUID } from "node:crypto";
import { mkdir, open, readFile, rm, rmdir, writeFile, type FileHandle } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { describeCause } from "../../errors/index.ts";
import { AttestationError } from "../errors.ts";

/** Where Linux offers reports (kernel 6.7 and newer, CONFIG_TSM_REPORTS, configfs mounted). Source: Documentation/ABI/testing/configfs-tsm-report. */
export const defaultTsmPath = "/sys/kernel/config/tsm/report";

/** Providers by the name in the file `provider`. */
const providers: Readonly<Record<string, "tdx" | "snp">> = { tdx_guest: "tdx", sev_guest: "snp" };

/** What one report gives. */
export interface TsmReport {
  readonly tee: "tdx" | "snp";
  /** The quote or report. */
  readonly outblob: Buffer;
  /** The host's certificate table (SNP); empty where there is none. */
  readonly auxblob: Buffer;
}

/** How to ask. */
export interface TsmRequest {
  readonly tsmPath: string;
  /** The whole field, 64 bytes. */
  readonly inblob: Uint8Array;
  /** The TEE to expect when the provider file is silent, and to insist on when it is not. */
  readonly tee?: "tdx" | "snp" | undefined;
  /** SNP: the VMPL to report at; the lowest allowed unless told. */
  readonly privlevel?: number | undefined;
  readonly signal?: AbortSignal | undefined;
}

const maxOutblob = 256 * 1024;
const maxAttempts = 3;
/** A quote takes the quoting service of the host a second or two; a report a few milliseconds. */
const answerTimeoutMs = 30_000;
const providerTimeoutMs = 500;
const pollMs = 10;

/**
 * Asks the kernel for a report: make an entry, write the data in one call, read the blobs, and remove the entry. When
 * somebody else wrote into the entry meanwhile (`generation` moved further than our writes), asks again.
 *
 * Throws `ERR_ATTESTER_UNAVAILABLE` (no such kernel interface) or `ERR_ATTESTER_FAILED`.
 */
export async function readTsmReport(request: TsmRequest): Promise<TsmReport> {
  for (let attempt = 1; ; attempt += 1) {
    const entry = join(request.tsmPath, `ociseal-${randomUUID()}`);
    await makeEntry(entry);
    try {
      const report = await readEntry(entry, request);
      if (report !== "overwritten") return report;
    } finally {
      await removeEntry(entry);
    }
    if (attempt >= maxAttempts) throw failed("the report was overwritten by another writer each time", request.tsmPath);
  }
}

/**
 * The TEE that the kernel offers reports of; `silent` when it gives entries but names no provider, `absent` when there is
 * no such interface (or no permission).
 */
export async function tsmProvider(tsmPath: string): Promise<"tdx" | "snp" | "silent" | "absent"> {
  const entry = join(tsmPath, `ociseal-${randomUUID()}`);
  try {
    await mkdir(entry);
  } catch {
    // No configfs, no driver or no permission: there is no provider for us.
    return "absent";
  }
  try {
    return (await readProvider(entry)) ?? "silent";
  } finally {
    await removeEntry(entry);
  }
}

async function makeEntry(entry: string): Promise<void> {
  try {
    await mkdir(entry);
  } catch (cause) {
    throw new AttestationError("ERR_ATTESTER_UNAVAILABLE", {
      message: `the kernel offers no reports here: cannot create ${entry} (${describeCause(cause)})`,
      hint: "this needs root in a TDX or SEV-SNP guest with Linux 6.7 or newer, and configfs mounted; older kernels offer only ioctl, which Node.js cannot use",
      cause,
    });
  }
}

async function readEntry(entry: string, request: TsmRequest): Promise<TsmReport | "overwritten"> {
  const provider = await readProvider(entry);
  const tee = provider ?? request.tee;
  if (tee === undefined) throw failed("the kernel does not say which TEE it is a guest of", join(entry, "provider"));
  if (request.tee !== undefined && tee !== request.tee)
    throw failed(`the kernel offers reports of ${tee}, not ${request.tee}`, join(entry, "provider"));
  const before = await readGeneration(entry);
  let writes = 1;
  if (tee === "snp" && request.privlevel !== undefined) {
    await writeInput(join(entry, "privlevel"), `${request.privlevel}`);
    writes += 1;
  }
  await writeInput(join(entry, "inblob"), request.inblob);
  const outblob = await readAnswer(join(entry, "outblob"), request.signal);
  const auxblob = await readIfThere(join(entry, "auxblob"));
  const after = await readGeneration(entry);
  if (before !== undefined && after !== undefined && after - before > writes) return "overwritten";
  return { tee, outblob, auxblob };
}

/** The kernel gives an entry its files at once; whoever plays the kernel gets a moment. */
async function readProvider(entry: string): Promise<"tdx" | "snp" | undefined> {
  const deadline = performance.now() + providerTimeoutMs;
  let text = "";
  for (;;) {
    text = (await readIfThere(join(entry, "provider"))).toString("latin1").trim();
    if (text !== "" || performance.now() > deadline) break;
    await delay(pollMs);
  }
  if (text === "") return undefined;
  const tee = providers[text];
  if (tee === undefined)
    throw failed(`the kernel's report provider ${JSON.stringify(text.slice(0, 40))} is unknown`, join(entry, "provider"));
  return tee;
}

async function readGeneration(entry: string): Promise<number | undefined> {
  const text = (await readIfThere(join(entry, "generation"))).toString("latin1").trim();
  return /^\d{1,15}$/.test(text) ? Number(text) : undefined;
}

/** One write call; the kernel answers EBUSY while another report is under way, and EINTR on a signal. */
async function writeInput(path: string, data: Uint8Array | string): Promise<void> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      await writeFile(path, data);
      return;
    } catch (cause) {
      const code = codeOf(cause);
      if ((code !== "EBUSY" && code !== "EINTR") || attempt >= 10)
        throw failed(`cannot write ${path} (${describeCause(cause)})`, path, cause);
      await delay(pollMs * attempt);
    }
  }
}

/** The kernel blocks the read until the report is there; whoever plays the kernel may take a moment to fill the file. */
async function readAnswer(path: string, signal: AbortSignal | undefined): Promise<Buffer> {
  const deadline = performance.now() + answerTimeoutMs;
  for (;;) {
    const blob = await readIfThere(path);
    if (blob.length > 0) return blob;
    if (signal?.aborted === true || performance.now() > deadline) throw failed(`no report appeared in ${path}`, path, signal?.reason);
    await delay(pollMs);
  }
}

/** The content of a file, bounded; empty when it does not exist. EBUSY and EINTR mean: not yet. */
async function readIfThere(path: string): Promise<Buffer> {
  let file: FileHandle | undefined;
  try {
    file = await open(path, "r");
    return await readToEnd(file, path);
  } catch (cause) {
    if (cause instanceof AttestationError) throw cause;
    if (["ENOENT", "EBUSY", "EINTR", "EAGAIN"].includes(codeOf(cause))) return Buffer.alloc(0);
    throw failed(`cannot read ${path} (${describeCause(cause)})`, path, cause);
  } finally {
    await file?.close();
  }
}

/** Kernel files say nothing true about their size, so they are read until there is no more. */
async function readToEnd(file: FileHandle, path: string): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let size = 0;
  for (;;) {
    const { bytesRead, buffer } = await file.read(Buffer.alloc(16_384), 0, 16_384, null);
    if (bytesRead === 0) return Buffer.concat(chunks, size);
    size += bytesRead;
    if (size > maxOutblob) throw failed(`${path} has more than ${maxOutblob} bytes`, path);
    chunks.push(buffer.subarray(0, bytesRead));
  }
}

/** In configfs the entry's files belong to the kernel and go with the directory; anywhere else they are ours to remove. */
async function removeEntry(entry: string): Promise<void> {
  try {
    await rmdir(entry);
  } catch {
    await rm(entry, { recursive: true, force: true, maxRetries: 3 }).catch(() => {
      // The name is unique and nothing depends on it: a leftover entry is no reason to lose a report.
    });
  }
}

/** The event log of a TDX guest, or `undefined`. Trimmed: fill behind the last event is not sent. */
export async function readEventLogTable(path: string): Promise<Buffer | undefined> {
  let log: Buffer;
  try {
    log = await readFile(path);
  } catch {
    // Not every firmware writes one; the verifier's policy says whether it is needed.
    return undefined;
  }
  const fill = log.at(-1);
  if (fill !== 0 && fill !== 0xff) return log;
  let end = log.length;
  while (end > 0 && log[end - 1] === fill) end -= 1;
  return log.subarray(0, Math.min(log.length, end + 8));
}

function codeOf(error: unknown): string {
  return typeof error === "object" && error !== null && "code" in error && typeof error.code === "string" ? error.code : "";
}

function failed(message: string, path: string, cause?: unknown): AttestationError {
  return new AttestationError("ERR_ATTESTER_FAILED", {
    message,
    cause,
    details: { path },
    hint: "see the kernel log (dmesg) for the reason",
  });
}
