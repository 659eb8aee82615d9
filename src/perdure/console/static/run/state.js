/** The session's state at each moment of the run. */

import { html, names, useEffect, useId, useState } from "../dom.js";
import { short } from "../text.js";
import { Value } from "../parts/json.js";
import { Empty } from "../parts/page.js";
import { Clock } from "../parts/time.js";

/** @param {{feed: import("../journal/feed.js").Feed, version: number, session: string | null}} props */
export function StateTab({ feed, session }) {
  const { changes, initial } = feed.state;
  const [place, setPlace] = useState(changes.length);
  const [atEnd, setAtEnd] = useState(true);
  const id = useId();
  useEffect(() => {
    if (atEnd) setPlace(changes.length);
  }, [changes.length]);
  if (changes.length === 0 && Object.keys(initial).length === 0) {
    return html`<${Empty} icon="session"
      title="No state">What the agent puts into <code>ctx.state</code> is shown here, at each moment of the run.<//>`;
  }
  const goTo = (count) => {
    setPlace(count);
    setAtEnd(count === changes.length);
  };
  const { state, changed, removed } = feed.state.after(place);
  return html`<div class="state">
    <div class="state-slider">
      <label class="label" for=${id}>
        ${place === 0 ? "Before the run" : html`After event ${changes[place - 1].seq}, <${Clock}
          time=${changes[place - 1].at} />`}</label>
      <input id=${id} type="range" min="0" max=${changes.length} value=${place}
        onInput=${(event) => goTo(event.target.valueAsNumber)} />
      <span class="muted">${place} of ${changes.length} changes${session ? "" : "; a run without a session forgets its state at its end"}</span>
    </div>
    <dl class="state-fields">
      ${Object.entries(state).map(([name, value]) => html`<div key=${name}
        class=${names("state-field", { changed: changed.has(name) })}>
        <dt>${name}${changed.has(name) && html`<span class="tag">changed</span>`}</dt><dd><${Value} value=${value} /></dd>
        </div>`)}
      ${removed.map(
        (name) => html`<div key=${name} class="state-field removed"><dt>${name}<span class="tag">removed</span>
        </dt><dd /></div>`,
      )}
    </dl>
    ${Object.keys(state).length === 0 && removed.length === 0 && html`<p class="muted">The state is empty here.</p>`}
    <ol class="state-changes">${changes.map(
      (change, index) => html`<li key=${change.seq}>
      <button type="button" class=${names("state-change", { on: index + 1 === place })} onClick=${() => goTo(index + 1)}>
      <span class="event-seq">${change.seq}</span><span>
        ${Object.entries(change.set)
          .map(([name, value]) => `${name} = ${short(value, 40)}`)
          .join(", ")}${change.unset.length ? ` − ${change.unset.join(", ")}` : ""}</span></button></li>`,
    )}</ol>
  </div>`;
}
