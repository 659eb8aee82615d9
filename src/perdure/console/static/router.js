/** Where are we? The hash holds it all (`#/runs?status=failed`), so any path prefix works and every view has an address. */

import { signal } from "./dom.js";

/** @typedef {{path: string, parts: string[], query: URLSearchParams}} Route */

/** @type {import("./vendor/signals-core.js").Signal<Route>} */
export const route = signal(read());

addEventListener("hashchange", () => {
  route.value = read();
});

/**
 * The address of a view, to be put into an `href`.
 * @param {string | string[]} path segments are encoded
 * @param {Record<string, unknown>} [query] null and empty ones are left out
 */
export function link(path, query = {}) {
  const segments = Array.isArray(path) ? path.map(encodeURIComponent).join("/") : path;
  const params = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    for (const one of [value].flat()) if (one !== null && one !== undefined && one !== "") params.append(name, String(one));
  }
  const text = params.toString();
  return `#/${segments}${text ? `?${text}` : ""}`;
}

/**
 * Go to an address made by `link`.
 * @param {string} address
 * @param {{replace?: boolean}} [how] replace: leave no entry in the history
 */
export function go(address, { replace = false } = {}) {
  if (replace) {
    history.replaceState(null, "", address);
    route.value = read();
  } else {
    location.hash = address;
  }
}

/**
 * Change some of the query and stay where we are.
 * @param {Record<string, unknown>} patch null removes a name
 */
export function setQuery(patch) {
  const { parts, query } = route.value;
  const merged = {};
  for (const name of query.keys()) merged[name] = query.getAll(name);
  go(link(parts, { ...merged, ...patch }), { replace: true });
}

/** @returns {Route} */
function read() {
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  const parts = path.split("/").filter(Boolean).map(decode);
  return { path: parts.join("/"), parts, query: new URLSearchParams(query) };
}

function decode(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text; // somebody typed a lone "%"
  }
}
