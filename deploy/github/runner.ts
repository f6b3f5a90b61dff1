/**
 * What GitHub's runner gives an action, and how the action answers. Only modules of Node.js: nothing is installed yet.
 * Source: GitHub, "Workflow commands" and "Metadata syntax"; actions/runner, Handler.cs and FileCommandManager.cs.
 */
import { randomUUID } from "node:crypto";
import { appendFileSync } from "node:fs";
import { setTimeout as wait } from "node:timers/promises";

/** A failure that the person at the workflow can do something about. */
export class ActionError extends Error {
  override readonly name = "ActionError";
  readonly title: string;
  readonly hint: string;

  constructor(title: string, message: string, hint: string) {
    super(message);
    this.title = title;
    this.hint = hint;
  }
}

/** An input's text without surrounding space; empty when it is not given and has no default. */
export function input(name: string): string {
  return (process.env[`INPUT_${name.replaceAll(" ", "_").toUpperCase()}`] ?? "").trim();
}

/** The lines of an input that say something. */
export function inputLines(name: string): readonly string[] {
  return input(name)
    .split("\n")
    .map((line) => line.trim())
    .filter((line) => line !== "");
}

/** Throws unless the input is what YAML calls true or false. */
export function inputSwitch(name: string): "on" | "off" {
  const text = input(name);
  if (/^(true|True|TRUE)$/.test(text)) return "on";
  if (/^(false|False|FALSE|)$/.test(text)) return "off";
  throw new ActionError("ERR_ACTION_INPUT", `${name} takes true or false, not ${text}`, `write ${name}: "true" or leave it away`);
}

type FileCommand = "GITHUB_OUTPUT" | "GITHUB_STATE";

function writePair(file: FileCommand, name: string, value: string): void {
  const path = process.env[file];
  if (path === undefined) return;
  // A value that held the delimiter could set other names.
  const delimiter = `end_${randomUUID()}`;
  appendFileSync(path, `${name}<<${delimiter}\n${value}\n${delimiter}\n`);
}

export function setOutput(name: string, value: string): void {
  writePair("GITHUB_OUTPUT", name, value);
}

/** What the step after the job finds in `STATE_…`. */
export function saveState(name: string, value: string): void {
  writePair("GITHUB_STATE", name, value);
}

/** Adds Markdown to the page of the run. */
export function addSummary(markdown: string): void {
  const path = process.env["GITHUB_STEP_SUMMARY"];
  if (path !== undefined) appendFileSync(path, `${markdown}\n`);
}

const escapeData = (text: string): string => text.replaceAll("%", "%25").replaceAll("\r", "%0D").replaceAll("\n", "%0A");
const escapeProperty = (text: string): string => escapeData(text).replaceAll(":", "%3A").replaceAll(",", "%2C");

function command(name: string, value: string, properties = ""): void {
  process.stdout.write(`::${name}${properties}::${escapeData(value)}\n`);
}

/** The runner writes *** in place of the secret from here on. */
export function mask(secret: string): void {
  command("add-mask", secret);
}

/** Shows the failure beside the step, and fails it. */
export function fail(error: unknown): void {
  const known = error instanceof ActionError ? error : undefined;
  const message = error instanceof Error ? error.message : String(error);
  const title = known?.title ?? "ociseal";
  command("error", known === undefined ? message : `${message}\nhint: ${known.hint}`, ` title=${escapeProperty(title)}`);
  process.exitCode = 1;
}

/** Runs work in a fold of the log; what it prints can give the runner no commands. */
export async function folded<Result>(title: string, work: () => Promise<Result>): Promise<Result> {
  command("group", title);
  const pass = randomUUID();
  command("stop-commands", pass);
  try {
    return await work();
  } finally {
    process.stdout.write(`::${pass}::\n`);
    command("endgroup", "");
  }
}

const tokenAttempts = 3;

/**
 * The job's identity token for an audience, masked. It lives for minutes.
 * Source: GitHub, "OpenID Connect reference", "Requesting the JWT using environment variables".
 */
export async function identityToken(audience: string): Promise<string> {
  const { ACTIONS_ID_TOKEN_REQUEST_URL: address, ACTIONS_ID_TOKEN_REQUEST_TOKEN: bearer } = process.env;
  if (address === undefined || bearer === undefined) {
    throw new ActionError(
      "ERR_ACTION_NO_IDENTITY",
      "this job may not ask GitHub for an identity token, which the Key Broker Service or the signature needs",
      "give the job permissions: id-token: write (a pull request from a fork never has it)",
    );
  }
  const url = new URL(address);
  url.searchParams.set("audience", audience);
  for (let attempt = 1; ; attempt += 1) {
    const answer = await ask(url, bearer);
    if (answer.token !== undefined) {
      mask(answer.token);
      return answer.token;
    }
    if (attempt === tokenAttempts || !answer.passing) {
      const hint = "run the job again; if it stays, see githubstatus.com";
      throw new ActionError("ERR_ACTION_NO_IDENTITY", `GitHub gave no identity token: ${answer.reason}`, hint);
    }
    await wait(attempt * 1000);
  }
}

interface TokenAnswer {
  readonly token?: string;
  readonly reason: string;
  /** Whether another attempt may help. */
  readonly passing: boolean;
}

async function ask(url: URL, bearer: string): Promise<TokenAnswer> {
  try {
    const headers = { authorization: `Bearer ${bearer}`, accept: "application/json" };
    const answer = await fetch(url, { headers, redirect: "error", signal: AbortSignal.timeout(30_000) });
    if (answer.status !== 200) return { reason: `status ${answer.status}`, passing: answer.status >= 500 || answer.status === 429 };
    const body: unknown = await answer.json();
    const token = typeof body === "object" && body !== null && "value" in body ? body.value : undefined;
    return typeof token === "string" && token !== "" ? { token, reason: "", passing: false } : { reason: "no token in it", passing: false };
  } catch (error) {
    return { reason: error instanceof Error ? error.message : "no answer", passing: true };
  }
}
