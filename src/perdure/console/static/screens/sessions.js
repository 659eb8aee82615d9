/** Sessions: the durable identities of agents, with their state and their runs. */

import { at, get } from "../api.js";
import { html } from "../dom.js";
import { useLive } from "../live.js";
import { go, link, route, setQuery } from "../router.js";
import { may } from "../store.js";
import { shortId } from "../text.js";
import { openSend } from "../parts/actions.js";
import { useCursor } from "../parts/cursor.js";
import { Icon } from "../parts/icon.js";
import { Json } from "../parts/json.js";
import { Empty, Loaded, Page, Section } from "../parts/page.js";
import { RunTable } from "../parts/runs.js";
import { Ago } from "../parts/time.js";

export function SessionsScreen() {
  const agent = route.value.query.get("agent") ?? "";
  const sessions = useLive((signal) => get("v1/sessions", { agent, limit: 500 }, signal), [agent]);
  return html`<${Page} title="Sessions" actions=${html`<label><span class="visually-hidden">Agent</span>
    <input class="input" placeholder="Agent" value=${agent}
      onChange=${(event) => setQuery({ agent: event.target.value.trim() })} /></label>`}>
    <${Loaded} of=${sessions} view=${({ items }) => html`<${SessionList} items=${items} />`} /><//>`;
}

function SessionList({ items }) {
  const cursor = useCursor(
    items.map((one) => ({ ...one, id: `${one.agent}/${one.session}` })),
    (one) => go(link(["sessions", one.agent, one.session])),
  );
  if (items.length === 0)
    return html`<${Empty} icon="session"
      title="No sessions">A run that is started with a session keeps its state for the next one: <code>?session=acme</code>
      <//>`;
  const byAgent = Map.groupBy(items, (one) => one.agent);
  return [...byAgent].map(
    ([agent, sessions]) => html`<${Section} key=${agent} title=${agent}>
    <ul class="card rows">${sessions.map(
      (one) => html`<li key=${one.session} class="row" data-cursor=${cursor.current === `${agent}/${one.session}`}>
    <a class="row-main" href=${link(["sessions", agent, one.session])}><${Icon} name="session" />
      <strong>${one.session}</strong></a>
    ${one.active && html`<a class="mono" href=${link(["runs", one.active])}>${shortId(one.active)}</a>`}
      <span class="muted row-end"><${Ago} time=${one.updated} /></span></li>`,
    )}</ul><//>`,
  );
}

/** @param {{agent: string, session: string}} props */
export function SessionScreen({ agent, session }) {
  const found = useLive((signal) => get(at("sessions", agent, session), {}, signal), []);
  const send =
    may("operator") &&
    html`<button type="button" class="button" onClick=${() => openSend(at("sessions", agent, session, "messages"))}>
      <${Icon} name="send" />Send message</button>
    <a class="button" href=${link(["agents", agent])}><${Icon} name="play" />Start a run</a>`;
  return html`<${Page} title=${session} lead=${html`A session of <a href=${link(["agents", agent])}>${agent}
    </a>`} actions=${send}>
    <${Loaded} of=${found} view=${({ state, runs, active }) => html`
      ${
        active &&
        html`<p class="banner"><span>Its active run is <a class="mono" href=${link(["runs", active])}>
        ${shortId(active)}</a>; another one waits for its turn.</span></p>`
      }
      <${Section} title="State"><div class="card pad">
        ${Object.keys(state).length ? html`<${Json} value=${state} open=${3} />` : html`<span
          class="muted">Nothing is kept yet.</span>`}</div><//>
      <${Section} title="Runs"><div class="card">
        ${runs.length ? html`<${RunTable} runs=${runs} plain />` : html`<${Empty} icon="runs" title="No runs" />`}</div>
        <//>`} /><//>`;
}
