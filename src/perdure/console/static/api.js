/** The HTTP API: one function for each method. Errors are `Problem`s that say what happened and the remedy. */

/** The console lives at the API's own root, whatever prefix a proxy puts before it. */
const ROOT = new URL(".", location.href).pathname;

/** An answer that is an error, or no answer at all (`status` 0). */
export class Problem extends Error {
  /** @param {{status: number, title?: string, detail?: string, error?: string}} body */
  constructor(body) {
    super(body.detail || body.title || `HTTP ${body.status}`);
    this.name = body.error || body.title || "Problem";
    this.status = body.status;
  }
}

/** What to do when the API does not know who we are; the store sets it. */
export const onUnauthenticated = { call: () => {} };

/**
 * @param {string} path such as `v1/runs`
 * @param {Record<string, unknown>} [query] arrays are repeated, null and empty ones left out
 * @param {AbortSignal} [signal]
 */
export const get = (path, query, signal) => request("GET", path, { query, signal });

/**
 * @param {string} path
 * @param {unknown} [body] sent as JSON
 * @param {{query?: Record<string, unknown>, headers?: Record<string, string>}} [more]
 */
export const post = (path, body = {}, more = {}) => request("POST", path, { body, ...more });

/** @param {string} path */
export const remove = (path) => request("DELETE", path, {});

/** The path of an API resource, segments encoded. */
export const at = (...segments) => ["v1", ...segments.map(encodeURIComponent)].join("/");

/** The full URL of an API path, for snippets and for streams. */
export function url(path, query) {
  const found = new URL(ROOT + path, location.origin);
  for (const [name, value] of Object.entries(query ?? {})) {
    for (const one of [value].flat()) {
      if (one !== null && one !== undefined && one !== "") found.searchParams.append(name, String(one));
    }
  }
  return found.href;
}

async function request(method, path, { query, body, headers = {}, signal }) {
  const unsafe = method !== "GET";
  let response;
  try {
    response = await fetch(url(path, query), {
      method,
      signal,
      body: body === undefined ? undefined : JSON.stringify(body),
      headers: {
        Accept: "application/json",
        ...(body === undefined ? {} : { "Content-Type": "application/json" }),
        ...(unsafe ? { "X-Perdure-CSRF": "1" } : {}),
        ...headers,
      },
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem({ status: 0, title: "No answer", detail: "The server does not answer. Is it running?" });
  }
  if (response.ok) return response.status === 204 ? null : readJson(response);
  throw await problemOf(response);
}

/** The problem that a response describes. */
export async function problemOf(response) {
  if (response.status === 401) onUnauthenticated.call();
  const body = await readJson(response).catch(() => ({}));
  return new Problem({ title: response.statusText, ...body, status: response.status });
}

async function readJson(response) {
  const text = await response.text();
  return text ? JSON.parse(text) : null;
}
