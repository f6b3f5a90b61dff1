// @ts-check
/** Makes elements. Text is only ever text: whatever the service sends ends in `textContent` or an attribute set here. */

const svgNamespace = "http://www.w3.org/2000/svg";

/** @typedef {Node | string | undefined | false} Child */
/** @typedef {Readonly<Record<string, string | number>>} Attributes */

/**
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} name
 * @param {Attributes} [attributes]
 * @param {...Child} children
 * @returns {HTMLElementTagNameMap[K]}
 */
export function h(name, attributes = {}, ...children) {
  return fill(document.createElement(name), attributes, children);
}

/**
 * @template {keyof SVGElementTagNameMap} K
 * @param {K} name
 * @param {Attributes} [attributes]
 * @param {...Child} children
 * @returns {SVGElementTagNameMap[K]}
 */
export function svg(name, attributes = {}, ...children) {
  return fill(document.createElementNS(svgNamespace, name), attributes, children);
}

/**
 * @template {Element} E
 * @param {E} element
 * @param {Attributes} attributes
 * @param {readonly Child[]} children
 * @returns {E}
 */
function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, String(value));
  for (const child of children) if (child !== undefined && child !== false) element.append(child);
  return element;
}

/**
 * The element with an id, which the page has.
 * @param {string} id
 * @returns {HTMLElement}
 */
export function byId(id) {
  const element = document.getElementById(id);
  if (element === null) throw new Error(`the page has no ${id}`);
  return element;
}

/**
 * A table that scrolls in its own box, so that a narrow page does not.
 * @param {string} label
 * @param {readonly (string | { readonly text: string, readonly class: string })[]} heads
 * @param {readonly (readonly Node[])[]} rows
 */
export function table(label, heads, rows) {
  const headCells = heads.map((head) =>
    typeof head === "string" ? h("th", { scope: "col" }, head) : h("th", { scope: "col", class: head.class }, head.text),
  );
  return h(
    "div",
    { class: "scroll", tabindex: 0, role: "region", "aria-label": label },
    h("table", {}, h("thead", {}, h("tr", {}, ...headCells)), h("tbody", {}, ...rows.map((cells) => h("tr", {}, ...cells)))),
  );
}

/**
 * @param {string | number} text
 * @param {string} [kind]
 */
export function cell(text, kind = "") {
  return h("td", kind === "" ? {} : { class: kind }, String(text));
}

/**
 * @param {string} text
 * @param {"good" | "bad" | "warn" | ""} [kind]
 */
export function tag(text, kind = "") {
  return h("span", { class: `tag ${kind}` }, text);
}

/** @param {string} text */
export function empty(text) {
  return h("p", { class: "empty" }, text);
}

/** @param {string} text */
export function problem(text) {
  return h("p", { class: "note bad" }, text);
}

const moment = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });

/**
 * A moment in the reader's own time; the exact one when pointed at.
 * @param {string} iso
 */
export function time(iso) {
  const date = new Date(iso);
  return h("time", { datetime: iso, title: iso }, Number.isNaN(date.getTime()) ? iso : moment.format(date));
}

/**
 * How long ago a moment was: "5 days".
 * @param {string} iso
 * @param {number} now
 */
export function age(iso, now) {
  const seconds = Math.max(0, (now - new Date(iso).getTime()) / 1000);
  if (Number.isNaN(seconds)) return iso;
  for (const [unit, size] of /** @type {const} */ ([
    ["day", 86_400],
    ["hour", 3600],
    ["minute", 60],
  ])) {
    const count = Math.floor(seconds / size);
    if (count >= 1) return `${count} ${unit}${count === 1 ? "" : "s"}`;
  }
  return "moments";
}
