import { readSmallFile } from "../files.ts";
import { codeOf, findingsOf, reasonOf, type Add, type Examination } from "./finding.ts";
import { fixOf, isLoopback, probe, type Answer } from "./probe.ts";

/** Tokens and nonces live for minutes; from here on clocks make them fail. */
const skewWarnMs = 5000;
const skewFailMs = 60_000;
const certificateWarnMs = 14 * 24 * 3600 * 1000;

/** Reachability, health, clock and certificate of the Key Broker Service. */
export const examineKbs: Examination = async ({ shell, options, now, asked }) => {
  const { list, add } = findingsOf("kbs");
  const text = options.kbs ?? shell.env["OCISEAL_KBS_URL"] ?? "";
  if (text === "") {
    add(asked ? "fail" : "not-checked", "address", "no Key Broker Service was named", "give --kbs URL, or set OCISEAL_KBS_URL");
    return list;
  }
  if (!URL.canParse(text) || !/^https?:$/.test(new URL(text).protocol)) {
    add("fail", "address", `${text} is not an http or https URL`, "for example https://kbs.example:8080");
    return list;
  }
  const base = new URL(text.endsWith("/") ? text : `${text}/`);
  if (base.protocol === "http:" && !isLoopback(base)) {
    add("fail", "address", `${base.host} would be asked in plain HTTP`, "use https; keys must not cross a network in the clear");
    return list;
  }
  try {
    const authorities = options.tlsCa === undefined ? undefined : (await readSmallFile(options.tlsCa, "certificate")).toString("utf8");
    const settings = { authorities, signal: shell.signal };
    const before = now();
    const health = await probe(new URL("healthz", base), settings);
    const after = now();
    if (health.status === 200) add("ok", "reachable", `${base.host} answers`);
    else
      add(
        "warn",
        "reachable",
        `${base.host} answers, but not as an ociseal service (${health.status})`,
        "is it Trustee's KBS, or a proxy?",
      );
    if (health.status === 200) {
      const ready = await probe(new URL("readyz", base), settings);
      if (ready.status === 200) add("ok", "ready", "its store answers");
      else if (ready.status === 404) add("not-checked", "ready", "it does not say whether its store answers, as Trustee does not");
      else add("fail", "ready", `it is not ready (${ready.status})`, "look at the service's log: its store or its audit log does not work");
    }
    clock(add, health, { before, after });
    certificate(add, health, after);
  } catch (error) {
    if (shell.signal.aborted) throw error;
    add("fail", "reachable", `${base.host}: ${reasonOf(error) || (codeOf(error) ?? "no answer")}`, fixOf(codeOf(error), "the service"));
  }
  return list;
};

/** The header counts whole seconds, and was written at some moment of the request. */
function clock(add: Add, { date }: Answer, { before, after }: { readonly before: Date; readonly after: Date }): void {
  if (date === undefined) return add("warn", "clock", "the service does not say its time", undefined);
  const early = before.getTime() - 1000 - date.getTime();
  const late = date.getTime() - after.getTime();
  const skew = Math.max(0, early, late);
  const text =
    skew === 0 ? "agrees with the service's" : `is ${(skew / 1000).toFixed(0)} s ${early > 0 ? "ahead of" : "behind"} the service's`;
  const fix = "synchronise both clocks (chrony, systemd-timesyncd, or kvm-clock in a guest)";
  if (skew > skewFailMs) add("fail", "clock", text, fix);
  else if (skew > skewWarnMs) add("warn", "clock", text, fix);
  else add("ok", "clock", text);
}

function certificate(add: Add, { certificateEnd }: Answer, now: Date): void {
  if (certificateEnd === undefined) return;
  const text = `ends ${certificateEnd.toISOString().slice(0, 10)}`;
  if (certificateEnd.getTime() - now.getTime() > certificateWarnMs) add("ok", "certificate", text);
  else add("warn", "certificate", text, "renew it, then send the service SIGHUP");
}
