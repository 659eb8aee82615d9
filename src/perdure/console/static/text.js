/** Values as words: JSON in a line, spans of time, moments, counts. */

/**
 * A JSON value on one line, cut off where it gets long.
 * @param {unknown} value
 * @param {number} [longest]
 */
export function short(value, longest = 80) {
  if (value === undefined || value === null) return value === null ? "null" : "";
  const text = typeof value === "string" ? value : JSON.stringify(value);
  const line = text.replace(/\s+/g, " ");
  return line.length > longest ? `${line.slice(0, longest - 1)}…` : line;
}

/**
 * A JSON value as people would say it: `item pen, quantity 2`.
 * @param {unknown} value
 * @param {number} [longest]
 */
export function brief(value, longest = 100) {
  if (value === null || typeof value !== "object") return short(value, longest);
  const parts = Array.isArray(value)
    ? value.map((item) => part(item))
    : Object.entries(value).map(([name, item]) => `${name} ${part(item)}`);
  return short(parts.join(", "), longest);
}

const part = (item) =>
  item !== null && typeof item === "object" && Object.keys(item).length === 0 ? "none" : short(item, 60);

/** A JSON value as it is indented for people. */
export const pretty = (value) => (value === undefined ? "" : JSON.stringify(value, null, 2));

/**
 * A span of time in its two largest units: `1 d 4 h`, `2.4 s`, `12 ms`.
 * @param {number} ms
 */
export function span(ms) {
  if (ms < 1) return "< 1 ms";
  if (ms < 1_000) return `${Math.round(ms)} ms`;
  if (ms < 10_000) return `${(ms / 1_000).toFixed(1)} s`;
  let rest = Math.round(ms / 1_000);
  const parts = [];
  for (const [unit, size] of UNITS) {
    if (rest >= size || (parts.length && size === 1)) {
      if (Math.floor(rest / size) > 0) parts.push(`${Math.floor(rest / size)} ${unit}`);
      rest %= size;
    }
    if (parts.length === 2) break;
  }
  return parts.join(" ");
}

const UNITS = [
  ["d", 86_400],
  ["h", 3_600],
  ["min", 60],
  ["s", 1],
];

/** How long ago something was, in one unit. */
export function ago(ms) {
  if (ms < 5_000) return "just now";
  const seconds = Math.floor(ms / 1_000);
  const [unit, size] = UNITS.find(([, size]) => seconds >= size);
  return `${Math.floor(seconds / size)} ${unit} ago`;
}

const clockFormat = new Intl.DateTimeFormat(undefined, {
  hour: "2-digit",
  minute: "2-digit",
  second: "2-digit",
  hour12: false,
});
const momentFormat = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium", hour12: false });
const dayFormat = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short" });

/** The time of day, with the date when it was not today. */
export function clock(ms) {
  const date = new Date(ms);
  const today = date.toDateString() === new Date().toDateString();
  return today ? clockFormat.format(date) : `${dayFormat.format(date)}, ${clockFormat.format(date)}`;
}

/** Date and time in full. */
export const moment = (ms) => momentFormat.format(new Date(ms));

/** `1 step`, `2 steps`, `12,345 steps`. */
export const count = (number, word, words = `${word}s`) => `${number.toLocaleString("en")} ${number === 1 ? word : words}`;

/** The telling end of a run's id. */
export const shortId = (id) => (id.length > 14 ? `${id.slice(0, 4)}…${id.slice(-6)}` : id);
