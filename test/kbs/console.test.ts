import { appendFile, mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Browser, BrowserContextOptions, Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { AuditLog, auditFile } from "../../src/kbs/audit/audit-log.ts";
import { readRecent } from "../../src/kbs/audit/read-recent.ts";
import { Activity } from "../../src/kbs/console/activity.ts";
import { missingChromium, startChromium } from "../browser.ts";
import { attest, auth, handshake, raw, startBench, type Bench } from "./harness.ts";

const markup = '<img src=x onerror="window.hacked=1"><script>window.hacked=2</script>';
let folder: string;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "kbs-console-"));
});
afterAll(() => rm(folder, { recursive: true }));

const bearer = (token: string | undefined) => ({ authorization: `Bearer ${token ?? ""}` });

describe("the console's routes", () => {
  it("serve a page that may run its own files alone, without a token, and nothing beside them", async () => {
    const bench = await startBench();
    const { url } = bench.server;
    const page = await raw(`${url}/console/`);
    expect(page.status).toBe(200);
    expect(page.headers["content-type"]).toBe("text/html; charset=utf-8");
    const policy = String(page.headers["content-security-policy"]);
    for (const rule of ["default-src 'none'", "script-src 'self'", "frame-ancestors 'none'", "require-trusted-types-for 'script'"])
      expect(policy).toContain(rule);
    expect(policy).not.toMatch(/unsafe|https?:|\*/);
    const links = [...page.text.matchAll(/(?:src|href)="([^"#]+)"/g)].map((match) => match[1] ?? "");
    expect(links.length).toBeGreaterThan(2);
    for (const link of links) {
      const file = await raw(`${url}/console/${link}`);
      expect(file.status, link).toBe(200);
      expect(file.headers["x-content-type-options"]).toBe("nosniff");
    }
    expect(page.text).not.toMatch(/<style|<script(?![^>]*src=)|\son\w+=|style="|javascript:/i);
    expect((await raw(`${url}/console`)).headers["location"]).toBe("console/");
    for (const path of ["/console/../healthz", "/console/%2e%2e/healthz", "/console/page-files.ts", "/console//app.js"])
      expect((await raw(`${url}${path}`)).status, path).toBe(404);
    await bench.close();
  });

  it("are not there when the configuration says so", async () => {
    const bench = await startBench({ console: "off" });
    for (const path of ["/console", "/console/", "/console/app.js", "/api/v1/activity"])
      expect((await raw(`${bench.server.url}${path}`)).status).toBe(404);
    await bench.close();
  });

  it("give activity to who may read the audit, within bounds", async () => {
    const bench = await startBench();
    const { url, adminToken } = bench.server;
    const path = `${url}/api/v1/activity`;
    expect((await raw(path)).status).toBe(401);
    const other = bench.server.issueAdminToken({
      subject: "o",
      role: "none",
      grants: [{ actions: ["resource:list"], paths: ["**"] }],
      lifetimeSeconds: 60,
    });
    expect((await raw(path, { headers: bearer(other) })).status).toBe(403);
    await handshake(url);
    const view = await raw(`${path}?hours=1&buckets=6`, { headers: bearer(adminToken) });
    expect(view.json).toMatchObject({ bucket_seconds: 600, audit: null });
    const buckets = view.json["buckets"] as { attestations: { allow: number } }[];
    expect(buckets).toHaveLength(6);
    expect(buckets.map(({ attestations }) => attestations.allow)).toEqual([0, 0, 0, 0, 0, 1]);
    for (const query of ["hours=0", "hours=745", "buckets=0", "buckets=201", "hours=1&buckets=61", "hours=x", "hours=-1", "hours=1e1"])
      expect((await raw(`${path}?${query}`, { headers: bearer(adminToken) })).status, query).toBe(400);
    await bench.close();
  });
});

describe("reading an audit log from its end", () => {
  const record = { action: "attest", decision: "allow", actor: "a", requestId: "r", address: "1" } as const;
  const openLog = (directory: string, maxFileBytes?: number, now = () => new Date()) =>
    AuditLog.open({ directory, maxFileBytes, now, sign: () => "x.y.z", keepHead: () => Promise.resolve() });
  const all = async (directory: string) => {
    const seqs: number[] = [];
    for await (const { seq } of readRecent(directory)) seqs.push(seq);
    return seqs;
  };

  it("gives every record once, newest first, across blocks and files, and leaves out a line that is being written", async () => {
    const directory = join(folder, "recent");
    const log = await openLog(directory, 200_000);
    expect(await all(directory)).toEqual([]);
    for (let i = 0; i < 400; i += 1) await log.append({ ...record, reasons: ["x".repeat((i * 37) % 3000)] });
    const head = log.head.seq;
    expect(await all(directory)).toEqual(Array.from({ length: head }, (_, index) => head - index));
    const [last] = (await import("node:fs")).readdirSync(directory).sort().reverse();
    await appendFile(join(directory, last ?? ""), '{"chain":"half a li');
    expect((await all(directory))[0]).toBe(head);
    await log.close();
  });

  it("refuses a line that is no record", async () => {
    const directory = join(folder, "damaged");
    const log = await openLog(directory);
    await log.append(record);
    await log.close();
    await appendFile(auditFile(directory, 1), "nonsense\n");
    await expect(all(directory)).rejects.toMatchObject({ code: "ERR_KBS_AUDIT_BROKEN" });
  });

  it("lets activity go on after a restart, each act counted once", async () => {
    const directory = join(folder, "restart");
    let now = new Date("2026-03-01T10:30:00Z");
    const first = await openLog(directory, undefined, () => now);
    await first.append(record);
    await first.append({ ...record, action: "release", decision: "deny", reasons: ["no"] });
    await first.append({ ...record, action: "policy.put", decision: "intent" });
    await first.close();
    now = new Date("2026-03-01T11:30:00Z");
    const second = await openLog(directory, undefined, () => now);
    const activity = new Activity(second, () => now);
    const sink = activity.watch(second);
    await sink.append({ ...record, decision: "error", reasons: ["away"] });
    await sink.append({ ...record, decision: "deny", reasons: ["bad"], count: 3 });
    const { buckets, refusals, since } = await activity.view({ hours: 3, count: 3 });
    expect(since).toBeUndefined();
    expect(buckets.map(({ attestations, releases }) => [attestations, releases])).toEqual([
      [
        { allow: 0, deny: 0, error: 0 },
        { allow: 0, deny: 0, error: 0 },
      ],
      [
        { allow: 1, deny: 0, error: 0 },
        { allow: 0, deny: 1, error: 0 },
      ],
      [
        { allow: 0, deny: 3, error: 1 },
        { allow: 0, deny: 0, error: 0 },
      ],
    ]);
    expect(refusals.map(({ entry }) => entry.reasons?.[0])).toEqual(["bad", "away", "no"]);
    // What the disk did not take did not happen.
    const failing = activity.watch({ append: () => Promise.reject(new Error("disk full")) });
    await expect(failing.append(record)).rejects.toThrow("disk full");
    expect((await activity.view({ hours: 1, count: 1 })).buckets[0]?.attestations.allow).toBe(0);
    await second.close();
  });
});

describe.skipIf(missingChromium())("the console in Chromium", () => {
  let browser: Browser;
  let bench: Bench;
  const problems: string[] = [];

  beforeAll(async () => {
    browser = await startChromium();
    bench = await startBench({ audit: { directory: join(folder, "audit"), checkpointEvery: 10 } });
    const { url, adminToken } = bench.server;
    const headers = bearer(adminToken);
    for (const [path, days] of [
      ["default/image-key/shop", 30],
      ["default/image-key/old", 1],
    ])
      await raw(`${url}/api/v1/keys`, { body: { path, rotation_days: days }, headers });
    for (let i = 0; i < 3; i += 1) {
      const { token } = await handshake(url);
      await raw(`${url}/kbs/v0/resource/default/image-key/shop`, { headers: bearer(token) });
      await raw(`${url}/kbs/v0/resource/default/image-key/${encodeURIComponent(markup)}`, { headers: bearer(token) });
    }
    const challenge = await auth(url);
    await attest(url, challenge.cookie, { "runtime-data": { nonce: "of another" } });
    const stranger = bench.server.issueAdminToken({ subject: markup, role: "nobody", lifetimeSeconds: 600 });
    await raw(`${url}/api/v1/keys`, { headers: { ...bearer(stranger), "user-agent": markup } });
    const creator = bench.server.issueAdminToken({ subject: `${markup}&quot;`, role: "admin", lifetimeSeconds: 600 });
    await raw(`${url}/api/v1/keys`, { body: { path: "default/image-key/marked" }, headers: bearer(creator) });
  });
  afterAll(async () => {
    await browser?.close();
    await bench?.close();
  });

  async function open(options: BrowserContextOptions = {}): Promise<Page> {
    const context = await browser.newContext({ locale: "en-GB", ...options });
    const page = await context.newPage();
    problems.length = 0;
    page.on("pageerror", (error) => problems.push(error.message));
    page.on("dialog", (dialog) => {
      problems.push(dialog.message());
      void dialog.dismiss();
    });
    page.on("console", (message) => {
      // A refused request is an error to the browser, and expected where it is tested.
      if (message.type() === "error" && !/status of 40[13]/.test(message.text())) problems.push(message.text());
    });
    page.on("request", (request) => {
      if (!request.url().startsWith(`${bench.server.url}/`)) problems.push(`a request to ${request.url()}`);
    });
    await page.goto(`${bench.server.url}/console`);
    return page;
  }

  async function signedIn(token = bench.server.adminToken ?? "", options: BrowserContextOptions = {}): Promise<Page> {
    const page = await open(options);
    await page.fill("#token", token);
    await page.keyboard.press("Enter");
    await page.getByText("As of ").waitFor();
    return page;
  }

  it("shows attestations, refusals with their reasons, keys, and the audit chain", async () => {
    const page = await signedIn();
    expect(await page.locator("#tiles").innerText()).toMatch(/Attestations verified\s+3\s+Attestations refused\s+1/);
    expect(await page.locator("#attestations svg.chart").getAttribute("aria-label")).toBe(
      "Attestations: 3 verified, 1 refused, 0 could not be judged",
    );
    expect(await page.locator("#attestations svg.chart rect").count()).toBeGreaterThan(0);
    await page.getByText("Show as a table").click();
    expect(await page.locator("#attestations table").innerText()).toMatch(/3\s+1\s+0/);
    const refusals = await page.locator("#refusals").innerText();
    for (const text of ["attest", "release", "admin access denied", "key.list"]) expect(refusals).toContain(text);
    const keys = await page.locator("#keys tbody tr").allInnerTexts();
    expect(keys.map((row) => row.split("\t")[0])).toEqual(["default/image-key/marked", "default/image-key/old", "default/image-key/shop"]);
    expect(keys[2]).toMatch(/enabled\s+moments/);
    expect(await page.locator("#audit").innerText()).toMatch(/Last checkpoint\s+record \d+, /);
    await page.getByRole("button", { name: "Verify the whole chain" }).click();
    await page.locator("#audit .note.good").waitFor();
    expect(await page.locator("#audit .note.good").innerText()).toMatch(/^Intact up to record \d+: \d+ records and \d+ signed checkpoints/);
    await page.getByText(/Last verified/).waitFor();
    expect(problems).toEqual([]);
    await page.context().close();
  });

  it("keeps markup in what strangers and administrators say as text", async () => {
    const page = await signedIn();
    const body = await page.locator("#console").innerText();
    expect(body).toContain("<img src=x");
    expect(body).toContain("window.hacked=2</script>");
    expect(await page.locator("#keys").innerText()).toContain(`${markup}&quot;`);
    await page.fill("#try-resource", "default/image-key/shop");
    await page.fill("#try-claims", JSON.stringify({ submods: { [markup]: { "ear.status": markup } } }));
    await page.getByRole("button", { name: "Evaluate" }).click();
    await page.locator("#try-answer .tag").waitFor();
    expect(await page.locator("#try-answer").innerText()).toContain(markup);
    expect(await page.locator("main img, main script, main [onerror]").count()).toBe(0);
    expect(await page.evaluate("window.hacked")).toBeUndefined();
    // The policy would have stopped what got through all the same.
    const blocked = await page.evaluate(
      `(() => { try { document.body.innerHTML = "<b>x</b>"; return "ran"; } catch { return "refused"; } })()`,
    );
    expect(blocked).toBe("refused");
    expect(problems.filter((text) => !text.includes("TrustedHTML"))).toEqual([]);
    await page.context().close();
  });

  it("tries a policy, with claims or a token, and says what is wrong with either", async () => {
    const page = await signedIn();
    const ask = async (claims: string): Promise<string> => {
      await page.fill("#try-resource", "kbs:///default/image-key/shop");
      await page.fill("#try-claims", claims);
      await page.getByRole("button", { name: "Evaluate" }).click();
      await page.locator("#try-answer .tag, #try-answer .note").waitFor();
      return page.locator("#try-answer").innerText();
    };
    expect(await ask("{}")).toMatch(
      /^denied by built-in:development[^]*the token names no attested device[^]*sha256:[^]*The resource exists/,
    );
    const { token } = await handshake(bench.server.url);
    expect(await ask(token)).toMatch(/^allowed by built-in:development/);
    expect(await ask("{")).toContain("The claims are not JSON");
    expect(await ask("[]")).toContain("neither claims nor a token");
    await page.getByRole("button", { name: "Fill in an example" }).click();
    expect(JSON.parse(await page.inputValue("#try-claims"))).toHaveProperty("submods");
    expect(problems.filter((text) => !/status of 400/.test(text))).toEqual([]);
    await page.context().close();
  });

  it("keeps the token in the tab alone, and forgets it when told or refused", async () => {
    const page = await open();
    await page.getByLabel("Administration token").waitFor();
    await page.keyboard.type("not.a.token");
    await page.keyboard.press("Enter");
    await page.getByText("does not take this token").waitFor();
    expect(await page.evaluate("sessionStorage.length")).toBe(0);
    await page.keyboard.type("bad token\u00e9");
    await page.keyboard.press("Enter");
    await page.getByText("does not look like a token").waitFor();
    await page.fill("#token", bench.server.adminToken ?? "");
    await page.keyboard.press("Tab");
    await page.keyboard.press("Enter");
    await page.getByText("As of ").waitFor();
    expect(await page.evaluate("[localStorage.length, document.cookie, location.search + location.hash]")).toEqual([0, "", ""]);
    expect(await page.content()).not.toContain(bench.server.adminToken);
    await page.reload();
    await page.getByText("As of ").waitFor();
    await page.getByRole("button", { name: "Sign out" }).click();
    await page.getByLabel("Administration token").waitFor();
    expect(await page.evaluate("sessionStorage.length")).toBe(0);
    expect(await page.locator("#keys, #refusals, #tiles").allInnerTexts()).toEqual(["", "", ""]);
    expect(problems).toEqual([]);
    await page.context().close();
  });

  it("shows what a token may see, and says what it may not", async () => {
    const token = bench.server.issueAdminToken({
      subject: "reader",
      role: "reader",
      grants: [{ actions: ["resource:list"], paths: ["default/image-key/shop"] }],
      lifetimeSeconds: 600,
    });
    const page = await signedIn(token);
    expect(await page.locator("#keys tbody tr").count()).toBe(1);
    for (const id of ["attestations", "refusals", "audit", "policies"])
      expect(await page.locator(`#${id}`).innerText()).toContain("Not for this token");
    expect(problems).toEqual([]);
    await page.context().close();
  });

  it.each(["light", "dark"] as const)("fits a telephone, and every control has a name, in %s colours", async (colorScheme) => {
    const page = await signedIn(undefined, { colorScheme, viewport: { width: 360, height: 700 } });
    expect(await page.evaluate("document.documentElement.scrollWidth")).toBe(360);
    const unnamed =
      await page.evaluate(`[...document.querySelectorAll("main input, main select, main textarea, main button, header button, header select")]
      .filter((control) => (control.labels?.length ?? 0) === 0 && control.textContent.trim() === "").length`);
    expect(unnamed).toBe(0);
    const background = await page.evaluate("getComputedStyle(document.body).backgroundColor");
    expect(background).toBe(colorScheme === "light" ? "rgb(244, 246, 248)" : "rgb(16, 22, 28)");
    expect(problems).toEqual([]);
    await page.context().close();
  });

  it("says so when the service is away, and when there is nothing yet", async () => {
    const fresh = await startBench();
    const context = await browser.newContext();
    const page = await context.newPage();
    await page.goto(`${fresh.server.url}/console/`);
    await page.fill("#token", fresh.server.adminToken ?? "");
    await page.keyboard.press("Enter");
    await page.getByText("No guest has attested in this time.").waitFor();
    for (const text of ["Nothing was refused lately.", "holds no keys", "No release policy was uploaded", "writes no audit log"])
      expect(await page.locator("#console").innerText()).toContain(text);
    await fresh.close();
    await page.getByRole("button", { name: "Refresh" }).click();
    await page.locator("#keys .note.bad").waitFor();
    expect(await page.locator("#keys").innerText()).toBe("the service does not answer");
    await context.close();
  });
});

it("the page's files make no markup of text", async () => {
  for (const name of ["app.js", "api.js", "chart.js", "dom.js", "panels.js", "try-out.js"]) {
    const text = await readFile(new URL(`../../src/kbs/console/page/${name}`, import.meta.url), "utf8");
    expect(text, name).not.toMatch(/innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function|localStorage/);
  }
});
