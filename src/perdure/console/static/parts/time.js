/** Times that keep themselves current. */

import { html } from "../dom.js";
import { now } from "../store.js";
import { ago, clock, moment, span } from "../text.js";

const ms = (time) => (typeof time === "number" ? time : Date.parse(time));

/** @param {{time: string | number}} props how long ago */
export function Ago({ time }) {
  const at = ms(time);
  return html`<time datetime=${new Date(at).toISOString()} title=${moment(at)}>${ago(Math.max(0, now.value - at))}</time>`;
}

/** @param {{time: string | number}} props the time of day */
export function Clock({ time }) {
  const at = ms(time);
  return html`<time class="clock" datetime=${new Date(at).toISOString()} title=${moment(at)}>${clock(at)}</time>`;
}

/** @param {{until: string, past?: string}} props time left; `past` is said once it is over */
export function Countdown({ until, past = "due" }) {
  const left = ms(until) - now.value;
  const tone = left < 0 ? "late" : left < 3_600_000 ? "soon" : "";
  return html`<time class=${`countdown ${tone}`} datetime=${until} title=${moment(ms(until))}>
    ${left > 0 ? span(left) : past}</time>`;
}

/** @param {{since: number}} props time since, counting */
export function Elapsed({ since }) {
  return html`<span>${span(Math.max(0, now.value - since))}</span>`;
}
