/** The journal as it is: every event, to be filtered, looked into, copied, downloaded. */

import { at, url } from "../api.js";
import { html, names, useMemo, useState } from "../dom.js";
import { inWords } from "../journal/words.js";
import { useKeys } from "../keys.js";
import { clock, pretty } from "../text.js";
import { Copy } from "../parts/copy.js";
import { Icon } from "../parts/icon.js";
import { Json } from "../parts/json.js";
import { Virtual } from "../parts/virtual.js";

const ROW_HEIGHT = 32;

/** @param {{run: object, feed: import("../journal/feed.js").Feed, version: number}} props */
export function EventsTab({ run, feed, version }) {
  const [type, setType] = useState("");
  const [text, setText] = useState("");
  const [chosen, setChosen] = useState(null);
  const [follow, setFollow] = useState(false);
  const types = useMemo(() => [...new Set(feed.events.map((event) => event.type))].sort(), [version]);
  const shown = useMemo(() => filtered(feed.events, type, text), [version, type, text]);
  const index = shown.findIndex((event) => event.seq === chosen);
  const move = (by) => shown.length > 0 && setChosen(shown[Math.min(shown.length - 1, Math.max(0, index + by))].seq);
  useKeys({ j: () => move(1), k: () => move(-1), Escape: () => (chosen === null ? false : setChosen(null)) });
  const event = index >= 0 ? shown[index] : null;
  return html`<div class="events">
    <div class="toolbar">
      <label><span class="visually-hidden">Type</span>
        <select class="input" onChange=${(change) => setType(change.target.value)}>
        <option value="">All types</option>${groupsOf(types).map(
          (one) => html`<option key=${one} value=${one}>${one}
          </option>`,
        )}</select></label>
      <label class="search"><${Icon} name="search" size="s" /><span class="visually-hidden">Filter</span>
        <input class="input" type="search" placeholder="Text in events" value=${text}
          onInput=${(change) => setText(change.target.value)} /></label>
      ${
        !feed.over &&
        html`<label class="check">
        <input type="checkbox" checked=${follow} onChange=${() => setFollow(!follow)} /><span>Follow</span></label>`
      }
      <span class="toolbar-end"><span class="muted">
        ${shown.length.toLocaleString("en")} of ${feed.events.length.toLocaleString("en")}</span>
        <${Copy} bare=${false} text=${() => shown.map((one) => JSON.stringify(plain(one))).join("\n")} label="Copy" />
        <a class="button small" href=${url(at("runs", run.id, "journal"))} download>
          <${Icon} name="download" size="s" />Journal</a></span>
    </div>
    <div class=${names("split", { open: event })}>
      <${Virtual} label="Events" rows=${shown} rowHeight=${ROW_HEIGHT} stick=${follow} show=${index}
        keyOf=${(one) => one.seq} view=${(
        one,
      ) => html`<button type="button"
        class=${names("event-row", { on: one.seq === chosen })} onClick=${() => setChosen(one.seq === chosen ? null : one.seq)}>
        <span class="event-seq">${one.seq}</span><span class="event-time">${clock(one.at)}</span>
          <span class=${`event-type type-${one.type.split(".")[0]}`}>${one.type}</span>
        <span class="event-step">${one.step ?? ""}</span><span class="event-words">${inWords(one)}</span></button>`} />
      ${
        event &&
        html`<aside class="event-detail" aria-label=${`Event ${event.seq}`}><header class="drawer-head">
        <h3>${event.seq} · ${event.type}</h3>
        <span><${Copy} text=${() => pretty(plain(event))} label="Copy event" />
          <button type="button" class="button quiet small" aria-label="Close" onClick=${() => setChosen(null)}>
          <${Icon} name="close" /></button></span></header>
        <p class="meta"><span>${event.time}</span>${
          event.step !== null &&
          html`<span>step ${event.step}
          </span>`
        }${event.attempt !== null && html`<span>attempt ${event.attempt}</span>`}</p>
        <${Json} key=${event.seq} value=${event.data} open=${3} /></aside>`
      }
    </div>
  </div>`;
}

function filtered(events, type, text) {
  const wanted = text.toLowerCase();
  const fits = type.endsWith("*") ? (one) => one.startsWith(type.slice(0, -1)) : (one) => !type || one === type;
  if (!type && !wanted) return events.slice();
  return events.filter(
    (event) =>
      fits(event.type) && (!wanted || `${event.type} ${JSON.stringify(event.data)}`.toLowerCase().includes(wanted)),
  );
}

/** `step.*` and the like first, then each type. */
function groupsOf(types) {
  const heads = types.filter((type) => type.includes(".")).map((type) => `${type.split(".")[0]}.*`);
  return [...new Set(heads), ...types];
}

/** The event as the API gave it, without what the console added. */
function plain({ run, seq, type, time, step, attempt, data }) {
  return { run, seq, type, time, step, attempt, data };
}
