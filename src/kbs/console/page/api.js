// @ts-check
/** Talks to the service that the page came from. */

const tokenKey = "ociseal-console-token";

/** Why a request brought nothing. */
export class Refused extends Error {
  /**
   * @param {string} message
   * @param {number} status 0 when there was no answer
   */
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

/** The token of this tab, `null` when there is none. */
export function storedToken() {
  return sessionStorage.getItem(tokenKey);
}

/** @param {string} token */
export function keepToken(token) {
  sessionStorage.setItem(tokenKey, token);
}

export function forgetToken() {
  sessionStorage.removeItem(tokenKey);
}

/**
 * @param {string} path below the service's root
 * @param {unknown} [body] sent as JSON with POST
 * @returns {Promise<any>}
 */
export async function call(path, body) {
  // The page lies at …/console/, also where a proxy puts the service below a path of its own.
  const url = new URL(`../${path}`, document.baseURI);
  /** @type {Record<string, string>} */
  const headers = { authorization: `Bearer ${storedToken() ?? ""}`, accept: "application/json" };
  if (body !== undefined) headers["content-type"] = "application/json";
  /** @type {Response} */
  let response;
  try {
    response = await fetch(url, {
      method: body === undefined ? "GET" : "POST",
      headers,
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      cache: "no-store",
      credentials: "omit",
      redirect: "error",
      signal: AbortSignal.timeout(60_000),
    });
  } catch {
    throw new Refused("the service does not answer", 0);
  }
  const value = await response.json().catch(() => undefined);
  if (response.ok && value !== undefined) return value;
  const detail = typeof value?.detail === "string" ? value.detail : `the service answered with status ${response.status}`;
  throw new Refused(detail, response.status);
}
