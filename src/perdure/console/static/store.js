/** What the whole console shares: who we are, whether the server is there, what changed, the time, the theme, notices. */

import { get, onUnauthenticated, post } from "./api.js";
import { effect, signal } from "./dom.js";
import { follow } from "./stream.js";

/** GET /v1/me, or null until it is known. */
export const me = signal(null);
export const loginNeeded = signal(false);
/** connecting | open | lost */
export const connection = signal("connecting");
/** The latest word of /v1/changes; `count` grows with each one. */
export const changes = signal({ count: 0, runs: [], asks: null });
/** Now in milliseconds; moves once a second while somebody looks. */
export const now = signal(Date.now());
/** system | light | dark */
export const theme = signal(localStorage.getItem("perdure.theme") ?? "system");
/** @type {import("./vendor/signals-core.js").Signal<{id: number, text: string, tone: string}[]>} */
export const notices = signal([]);

onUnauthenticated.call = () => {
  loginNeeded.value = true;
};

setInterval(() => {
  if (!document.hidden) now.value = Date.now();
}, 1_000);

effect(() => {
  const chosen = theme.value;
  if (chosen === "system") {
    delete document.documentElement.dataset.theme;
    localStorage.removeItem("perdure.theme");
  } else {
    document.documentElement.dataset.theme = chosen;
    localStorage.setItem("perdure.theme", chosen);
  }
});

let following = null;

/** Learn who we are, then follow what changes. Without a login, `loginNeeded` becomes true. */
export async function connect() {
  loginNeeded.value = false;
  try {
    me.value = await get("v1/me");
  } catch (problem) {
    if (problem.status !== 401) {
      connection.value = "lost";
      setTimeout(connect, 1_000);
    }
    return;
  }
  following?.close();
  following = follow("v1/changes", { onEvent: takeChange, onState: takeState });
}

/** @param {string} code a login code or an API key */
export async function logIn(code) {
  await post("v1/login", { code });
  await connect();
}

export async function logOut() {
  await post("v1/logout");
  following?.close();
  me.value = null;
  loginNeeded.value = true;
}

/** True when we may do what needs `scope`. */
export function may(scope) {
  const scopes = me.value?.scopes ?? [];
  return scopes.includes(scope) || scopes.includes("admin");
}

/**
 * Say something in the corner for a few seconds.
 * @param {string} text
 * @param {"good" | "bad" | "plain"} [tone] bad ones stay longer
 */
export function notify(text, tone = "plain") {
  const notice = { id: Math.random(), text, tone };
  notices.value = [...notices.value.slice(-3), notice];
  setTimeout(() => dismiss(notice.id), tone === "bad" ? 9_000 : 4_000);
}

/** @param {number} id */
export function dismiss(id) {
  notices.value = notices.value.filter((notice) => notice.id !== id);
}

/**
 * Do something, and say what went wrong if it did.
 * @template T
 * @param {() => Promise<T>} work
 * @param {string} [done] said when it went well
 * @returns {Promise<T | undefined>}
 */
export async function attempt(work, done) {
  try {
    const result = await work();
    if (done) notify(done, "good");
    return result;
  } catch (problem) {
    notify(problem.message, "bad");
    return undefined;
  }
}

function takeChange(type, data) {
  if (type === "change") changes.value = { count: changes.value.count + 1, runs: data.runs ?? [], asks: data.asks ?? null };
}

function takeState(state) {
  if (state === "open" && connection.value === "lost") {
    notify("The server is back. Nothing was lost.", "good");
    changes.value = { ...changes.value, count: changes.value.count + 1, runs: [] };
  }
  if (state !== "ended" && !(state === "connecting" && connection.value === "open")) connection.value = state;
}
