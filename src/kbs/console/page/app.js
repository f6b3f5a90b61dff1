// @ts-check
import { Refused, call, forgetToken, keepToken, storedToken } from "./api.js";
import { attestationChart } from "./chart.js";
import { byId, h, problem } from "./dom.js";
import { auditFacts, keyTable, policyTable, refusalTable, tiles, verdictNote } from "./panels.js";
import { tryOut } from "./try-out.js";

/** @typedef {import("./panels.js").Activity} Activity */
/** @typedef {import("./panels.js").Key} Key */

/** Stretches of time in a chart, by the hours that it shows. */
const bucketsOf = /** @type {Readonly<Record<string, number>>} */ ({ 1: 60, 24: 48, 168: 56, 720: 60 });
const refreshMs = 30_000;
const keyPage = 100;

const signIn = byId("sign-in");
const token = /** @type {HTMLInputElement} */ (byId("token"));
const range = /** @type {HTMLSelectElement} */ (byId("range"));
const trial = tryOut();

/** @type {Activity | undefined} */
let activity;
/** @type {{ readonly keys: readonly Key[], readonly next: string | undefined } | undefined} */
let keys;
let drawnWidth = 0;
let loading = false;

/** @param {string} [why] */
function showSignIn(why) {
  forgetToken();
  byId("console").hidden = true;
  byId("controls").hidden = true;
  byId("mode").hidden = true;
  byId("where").textContent = "";
  signIn.hidden = false;
  const complaint = byId("sign-in-problem");
  complaint.hidden = why === undefined;
  complaint.textContent = why ?? "";
  token.value = "";
  token.focus();
}

function showConsole() {
  signIn.hidden = true;
  byId("console").hidden = false;
  byId("controls").hidden = false;
  for (const id of ["attestations", "refusals", "keys", "audit", "policies"])
    if (byId(id).childElementCount === 0) byId(id).replaceChildren(h("p", { class: "empty busy" }, "Loading…"));
}

/**
 * Fills a panel; what one token may not see does not keep it from seeing the rest. A token that is no good ends the
 * session.
 * @param {readonly string[]} ids
 * @param {() => Promise<void>} load
 */
async function panel(ids, load) {
  try {
    await load();
  } catch (error) {
    if (error instanceof Refused && error.status === 401) throw error;
    const message =
      error instanceof Refused ? (error.status === 403 ? `Not for this token: ${error.message}` : error.message) : String(error);
    for (const id of ids) byId(id).replaceChildren(problem(message));
  }
}

async function load() {
  if (loading || storedToken() === null) return;
  loading = true;
  const button = /** @type {HTMLButtonElement} */ (byId("refresh"));
  button.disabled = true;
  try {
    await Promise.all([
      panel(["where"], loadSystem),
      panel(["attestations", "refusals", "audit"], loadActivity),
      panel(["keys"], () => loadKeys(undefined)),
      panel(["policies"], async () => byId("policies").replaceChildren(policyTable(await call("api/v1/policies")))),
    ]);
    showTiles();
    byId("status").textContent = `As of ${new Date().toLocaleTimeString()}, refreshed every ${refreshMs / 1000} seconds.`;
  } catch (error) {
    if (error instanceof Refused) showSignIn(`The service does not take this token: ${error.message}`);
    else throw error;
  } finally {
    loading = false;
    button.disabled = false;
  }
}

async function loadSystem() {
  const system = await call("api/v1/system");
  byId("where").textContent = `${location.host}, store: ${system.store}`;
  const mode = byId("mode");
  mode.hidden = false;
  mode.className = system.mode === "production" ? "tag" : "tag warn";
  mode.textContent = system.mode === "production" ? "production" : "development: keys go to the sample TEE";
}

async function loadActivity() {
  const hours = range.value;
  activity = await call(`api/v1/activity?hours=${hours}&buckets=${bucketsOf[hours] ?? 48}`);
  drawChart();
  byId("refusals").replaceChildren(refusalTable(activity?.refusals ?? []));
  byId("audit").replaceChildren(
    auditFacts(activity?.audit ?? null, activity?.verification ?? null),
    ...verifyParts(activity?.audit ?? null),
  );
}

function drawChart() {
  if (activity === undefined) return;
  const place = byId("attestations");
  drawnWidth = Math.max(280, place.clientWidth);
  const { buckets, bucket_seconds: seconds, since } = activity;
  const cut = since !== null && buckets[0] !== undefined && since > buckets[0].from;
  const open = place.querySelector("details")?.open ?? false;
  place.replaceChildren(
    ...attestationChart(buckets, { width: drawnWidth, seconds }),
    ...(cut ? [h("p", { class: "quiet small" }, `Nothing is known here about the time before ${new Date(since).toLocaleString()}.`)] : []),
  );
  const details = place.querySelector("details");
  if (details !== null) details.open = open;
}

/** @param {Activity["audit"]} audit */
function verifyParts(audit) {
  if (audit === null) return [];
  const button = h("button", { type: "button" }, "Verify the whole chain");
  const verdict = h("div", { role: "status" });
  button.addEventListener("click", () => void verify(button, verdict));
  const old = byId("audit").querySelector("[role=status]");
  if (old !== null) verdict.replaceChildren(...old.childNodes);
  return [h("div", { class: "row" }, button), verdict];
}

/**
 * @param {HTMLButtonElement} button
 * @param {HTMLElement} verdict
 */
async function verify(button, verdict) {
  button.disabled = true;
  verdict.replaceChildren(h("p", { class: "quiet busy" }, "Verifying every record and signature…"));
  try {
    verdict.replaceChildren(verdictNote(await call("api/v1/audit/verify")));
    void load();
  } catch (error) {
    verdict.replaceChildren(problem(error instanceof Error ? error.message : String(error)));
  } finally {
    button.disabled = false;
  }
}

/** @param {string | undefined} after */
async function loadKeys(after) {
  const page = await call(`api/v1/keys?limit=${keyPage}${after === undefined ? "" : `&after=${encodeURIComponent(after)}`}`);
  keys = { keys: [...(after === undefined ? [] : (keys?.keys ?? [])), ...page.keys], next: page.next };
  const place = byId("keys");
  place.replaceChildren(keyTable(keys.keys, Date.now()));
  trial.offer(keys.keys.map(({ path }) => path));
  if (keys.next === undefined) return;
  const more = h("button", { type: "button" }, "Show more keys");
  more.addEventListener("click", () => {
    more.disabled = true;
    void panel(["keys"], () => loadKeys(keys?.next)).then(showTiles);
  });
  place.append(h("div", { class: "row" }, more));
}

function showTiles() {
  if (activity === undefined) return;
  const known =
    keys === undefined
      ? undefined
      : { keys: keys.keys.length, due: keys.keys.filter((key) => key.rotation_due === true).length, more: keys.next !== undefined };
  byId("tiles").replaceChildren(...tiles(activity, known).filter((tile) => tile !== false));
}

signIn.addEventListener("submit", (event) => {
  event.preventDefault();
  const given = token.value.trim();
  // A header carries no other characters; the service would refuse them without saying which.
  if (!/^[\w.~+/=-]+$/.test(given)) return showSignIn("This does not look like a token: it has characters that no token has.");
  keepToken(given);
  token.value = "";
  showConsole();
  byId("main").focus();
  void load();
});
byId("refresh").addEventListener("click", () => void load());
byId("leave").addEventListener("click", () => {
  for (const id of ["tiles", "attestations", "refusals", "keys", "audit", "policies"]) byId(id).replaceChildren();
  activity = undefined;
  keys = undefined;
  showSignIn();
});
range.addEventListener("change", () => void load());
new ResizeObserver(() => {
  if (Math.abs(byId("attestations").clientWidth - drawnWidth) > 20) drawChart();
}).observe(byId("attestations"));
setInterval(() => {
  if (document.visibilityState === "visible") void load();
}, refreshMs);

byId("try-out").append(trial.form);
if (storedToken() === null) showSignIn();
else {
  showConsole();
  void load();
}
