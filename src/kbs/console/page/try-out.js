// @ts-check
import { Refused, call } from "./api.js";
import { h, problem, tag } from "./dom.js";
import { reasonList } from "./panels.js";

const example = {
  submods: {
    cpu0: {
      "ear.status": "affirming",
      "ear.veraison.annotated-evidence": { tdx: { quote: { body: { mr_td: "91eb2b44…" } } } },
    },
  },
};

/**
 * The form that asks what a guest with some claims would get. Made once: what was typed stays while the rest refreshes.
 * @returns {{ readonly form: HTMLElement, offer(paths: readonly string[]): void }}
 */
export function tryOut() {
  const paths = h("datalist", { id: "paths" });
  const resource = h("input", { id: "try-resource", list: "paths", required: "", spellcheck: "false", placeholder: "default/image-key/1" });
  const claims = h("textarea", { id: "try-claims", class: "mono", required: "", spellcheck: "false", "aria-describedby": "claims-help" });
  const fillIn = h("button", { type: "button" }, "Fill in an example");
  const ask = h("button", { type: "submit", class: "main" }, "Evaluate");
  const answer = h("div", { id: "try-answer", role: "status" }, h("p", { class: "empty" }, "The decision and its reasons appear here."));
  const form = h(
    "form",
    { class: "form", autocomplete: "off" },
    h(
      "div",
      {},
      h("div", { class: "field" }, h("label", { for: "try-resource" }, "Resource"), resource, paths),
      h(
        "div",
        { class: "field" },
        h("label", { for: "try-claims" }, "Claims as JSON, or an attestation token"),
        claims,
        h("p", { class: "quiet small", id: "claims-help" }, "Nothing is released, and nothing is kept."),
      ),
      h("div", { class: "row" }, ask, fillIn),
    ),
    answer,
  );
  fillIn.addEventListener("click", () => {
    claims.value = JSON.stringify(example, undefined, 2);
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    void evaluate({ resource: resource.value.trim(), text: claims.value.trim() }, ask, answer);
  });
  return {
    form,
    offer: (list) => paths.replaceChildren(...list.map((path) => h("option", { value: path }))),
  };
}

/**
 * @param {{ readonly resource: string, readonly text: string }} question
 * @param {HTMLButtonElement} button
 * @param {HTMLElement} answer
 */
async function evaluate({ resource, text }, button, answer) {
  button.disabled = true;
  answer.replaceChildren(h("p", { class: "empty busy" }, "Asking…"));
  try {
    const evidence = /^[\w-]+\.[\w-]+\.[\w-]+$/.test(text) ? { token: text } : { claims: JSON.parse(text) };
    const trial = await call("api/v1/policies/evaluate", { resource: resource.replace(/^kbs:\/\/\//, ""), ...evidence });
    answer.replaceChildren(
      h("p", {}, tag(trial.allow ? "allowed" : "denied", trial.allow ? "good" : "bad"), ` by ${trial.policy}`),
      ...(trial.reasons.length === 0 ? [] : [reasonList(trial.reasons)]),
      h("p", { class: "quiet small mono" }, trial.digest),
      h("p", { class: "quiet small" }, trial.resource_exists ? "The resource exists." : "There is no such resource now."),
    );
  } catch (error) {
    const why =
      error instanceof Refused ? error.message : error instanceof SyntaxError ? `The claims are not JSON: ${error.message}` : String(error);
    answer.replaceChildren(problem(why));
  } finally {
    button.disabled = false;
  }
}
