// @ts-check
import { age, cell, empty, h, problem, table, tag, time } from "./dom.js";

/** @typedef {import("./chart.js").Bucket} Bucket */

/**
 * @typedef {{
 *   readonly time: string, readonly action: string, readonly decision: string, readonly actor: string,
 *   readonly resource: string | null, readonly reasons: readonly string[], readonly policy: string | null,
 *   readonly request_id: string, readonly address: string, readonly count: number,
 * }} Act
 * @typedef {{
 *   readonly chain: string, readonly seq: number, readonly hash: string,
 *   readonly checkpoint: { readonly seq: number, readonly time: string | null } | null,
 * }} Chain
 * @typedef {{
 *   readonly bucket_seconds: number, readonly since: string | null, readonly buckets: readonly Bucket[],
 *   readonly refusals: readonly Act[], readonly verification: Act | null, readonly audit: Chain | null,
 * }} Activity
 * @typedef {{
 *   readonly path: string, readonly kind: string, readonly created_at: string, readonly created_by: string,
 *   readonly current_version: number, readonly rotation_days?: number, readonly rotation_due_at?: string, readonly rotation_due?: boolean,
 *   readonly versions: readonly { readonly version: number, readonly state: string, readonly created_at: string }[],
 * }} Key
 * @typedef {{
 *   readonly policies: readonly { readonly id: string, readonly language: string, readonly resources: string, readonly version: number, readonly created_at: string, readonly created_by: string, readonly digest: string }[],
 *   readonly fallback: string,
 * }} Policies
 */

/** @param {readonly Act[]} refusals */
export function refusalTable(refusals) {
  if (refusals.length === 0) return empty("Nothing was refused lately.");
  const rows = refusals.map((act) => [
    h("td", { class: "once" }, time(act.time)),
    h("td", {}, tag(act.action, act.decision === "error" ? "warn" : "bad"), act.count > 1 && ` ${act.count} times`),
    h("td", { class: "why" }, reasonList(act.reasons)),
    h(
      "td",
      { class: "wide" },
      act.resource ?? "",
      act.policy !== null && h("div", { class: "quiet small" }, `policy ${act.policy.split(" ")[0] ?? ""}`),
    ),
    h("td", { class: "wide" }, act.actor, h("div", { class: "quiet small" }, act.address)),
    h("td", { class: "mono small wide" }, act.request_id),
  ]);
  return table("The last refusals", ["When", "What", "Why", "Resource", "Who", "Request"], rows);
}

/** @param {readonly string[]} reasons */
export function reasonList(reasons) {
  return h("ul", { class: reasons.length === 1 ? "one" : "reasons" }, ...reasons.map((reason) => h("li", {}, reason)));
}

/**
 * @param {readonly Key[]} keys
 * @param {number} now
 */
export function keyTable(keys, now) {
  if (keys.length === 0) return empty("This service holds no keys that this token may see.");
  const rows = keys.map((key) => {
    const current = key.versions.find(({ version }) => version === key.current_version);
    const former = key.versions.filter(({ version }) => version !== key.current_version);
    return [
      h("td", { class: "wide mono" }, key.path),
      cell(key.kind),
      cell(key.current_version, "number"),
      h("td", {}, stateTag(current?.state ?? "unknown"), former.length > 0 && h("div", { class: "quiet small" }, statesOf(former))),
      h("td", { class: "once", title: current?.created_at ?? key.created_at }, age(current?.created_at ?? key.created_at, now)),
      h("td", { class: "once" }, ...rotation(key)),
      h("td", { class: "wide" }, key.created_by),
    ];
  });
  return table("Keys", ["Path", "Kind", { text: "Version", class: "number" }, "State", "Age", "Rotation", "Created by"], rows);
}

/** @param {string} state */
function stateTag(state) {
  return tag(state, state === "enabled" ? "good" : state === "disabled" ? "warn" : "bad");
}

/** @param {Key["versions"]} versions */
function statesOf(versions) {
  const counts = new Map();
  for (const { state } of versions) counts.set(state, (counts.get(state) ?? 0) + 1);
  return `former: ${[...counts].map(([state, count]) => `${count} ${state}`).join(", ")}`;
}

/** @param {Key} key */
function rotation(key) {
  if (key.rotation_due_at === undefined) return [h("span", { class: "quiet" }, "not planned")];
  return key.rotation_due === true ? [tag("due", "warn"), " since ", time(key.rotation_due_at)] : [time(key.rotation_due_at)];
}

/**
 * @param {Chain | null} audit
 * @param {Act | null} verification
 */
export function auditFacts(audit, verification) {
  if (audit === null) return problem("This service writes no audit log of its own: name a folder in [audit].");
  const { checkpoint } = audit;
  return h(
    "dl",
    { class: "facts" },
    h("dt", {}, "Chain"),
    h("dd", { class: "mono" }, audit.chain),
    h("dt", {}, "Last record"),
    h("dd", {}, audit.seq.toLocaleString()),
    h("dt", {}, "Its hash"),
    h("dd", { class: "mono small" }, audit.hash),
    h("dt", {}, "Last checkpoint"),
    checkpoint === null
      ? h("dd", { class: "quiet" }, "none yet")
      : h(
          "dd",
          {},
          `record ${checkpoint.seq.toLocaleString()}`,
          checkpoint.time !== null && ", ",
          checkpoint.time !== null && time(checkpoint.time),
        ),
    h("dt", {}, "Last verified"),
    verification === null
      ? h("dd", { class: "quiet" }, "not in the time that is shown")
      : h("dd", {}, time(verification.time), ": ", verification.reasons.join("; ")),
  );
}

/** @param {{ readonly verdict: string, readonly records: number, readonly checkpoints: number, readonly startsAt?: string, readonly head?: { readonly seq: number }, readonly break?: { readonly message: string } }} verdict */
export function verdictNote(verdict) {
  const upTo = verdict.head === undefined ? "" : ` up to record ${verdict.head.seq.toLocaleString()}`;
  if (verdict.verdict === "broken") return problem(`Broken: ${verdict.break?.message ?? "the chain does not hold"}. Intact${upTo}.`);
  return h(
    "p",
    { class: "note good" },
    `Intact${upTo}: ${verdict.records.toLocaleString()} records and ${verdict.checkpoints.toLocaleString()} signed checkpoints verified${verdict.startsAt === "checkpoint" ? ", from the oldest kept checkpoint on" : ""}.`,
  );
}

/** @param {Policies} policies */
export function policyTable({ policies, fallback }) {
  const last = h("p", { class: "quiet small" }, `Where none fits, ${fallback} decides.`);
  if (policies.length === 0) return h("div", {}, empty("No release policy was uploaded."), last);
  const rows = policies.map(({ id, language, resources, version, created_at: createdAt, created_by: createdBy, digest }) => [
    h("td", { class: "mono", title: digest }, id),
    h("td", { class: "mono" }, resources),
    cell(`${language}, upload ${version}`),
    h("td", { title: createdBy }, time(createdAt)),
  ]);
  return h("div", {}, table("Release policies", ["Id", "Resources", "Language", "Since"], rows), last);
}

/**
 * @param {Activity} activity
 * @param {{ readonly keys: number, readonly due: number, readonly more: boolean } | undefined} keys
 */
export function tiles({ buckets, audit }, keys) {
  const sum = (/** @type {"attestations" | "releases"} */ what, /** @type {"allow" | "deny" | "error"} */ how) =>
    buckets.reduce((total, bucket) => total + bucket[what][how], 0);
  const refused = sum("attestations", "deny") + sum("attestations", "error");
  const denied = sum("releases", "deny") + sum("releases", "error");
  return [
    tile("Attestations verified", sum("attestations", "allow")),
    tile("Attestations refused", refused, refused > 0 ? "bad" : ""),
    tile("Keys released", sum("releases", "allow")),
    tile("Releases refused", denied, denied > 0 ? "bad" : ""),
    keys !== undefined && tile(`Due for rotation of ${keys.keys}${keys.more ? "+" : ""} keys`, keys.due, keys.due > 0 ? "warn" : ""),
    audit !== null && tile("Audit records", audit.seq),
  ];
}

/**
 * @param {string} name
 * @param {number} value
 * @param {string} [kind]
 */
function tile(name, value, kind = "") {
  return h("div", {}, h("dt", {}, name), h("dd", kind === "" ? {} : { class: kind }, value.toLocaleString()));
}
