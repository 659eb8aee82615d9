/** All runs in one live table. The filters are the address; what was chosen survives every refresh. */

import { get, post } from "../api.js";
import { html, names, useEffect, useRef, useState } from "../dom.js";
import { useKeys } from "../keys.js";
import { useLive } from "../live.js";
import { go, link, route, setQuery } from "../router.js";
import { attempt, may, notify } from "../store.js";
import { count } from "../text.js";
import { useCursor } from "../parts/cursor.js";
import { confirm } from "../parts/dialog.js";
import { Icon } from "../parts/icon.js";
import { Empty, Loaded, Page } from "../parts/page.js";
import { RunTable } from "../parts/runs.js";
import { STATUSES } from "../parts/status.js";

const PAGE = 100;
const LIMIT_MAX = 1_000;

export function RunsScreen() {
  const { query } = route.value;
  const filter = {
    agent: query.get("agent"),
    session: query.get("session"),
    parent: query.get("parent"),
    status: query.getAll("status"),
  };
  const text = query.get("q") ?? "";
  const [limit, setLimit] = useState(PAGE);
  const [older, setOlder] = useState({ items: [], next: null });
  const key = JSON.stringify(filter);
  useEffect(() => {
    setLimit(PAGE);
    setOlder({ items: [], next: null });
  }, [key]);
  const page = useLive((signal) => get("v1/runs", { ...filter, limit }, signal), [key, limit]);
  const selection = useSelection(key);

  const more = async (next) => {
    // One request refreshes what is shown, up to what the API gives at once; beyond that, older pages stand as they were.
    if (limit < LIMIT_MAX) return setLimit(Math.min(LIMIT_MAX, limit * 3));
    const found = await attempt(() => get("v1/runs", { ...filter, cursor: next, limit: LIMIT_MAX }));
    return found && setOlder({ items: [...older.items, ...found.items], next: found.next });
  };

  return html`<${Page} title="Runs" actions=${
    may("operator") &&
    html`<a class="button primary" href=${link("agents")}>
    <${Icon} name="plus" />Start a run</a>`
  }>
    <${Filters} filter=${filter} text=${text} />
    <${Loaded} of=${page} view=${(data) => {
      const known = new Set(data.items.map((run) => run.id));
      const all = [...data.items, ...older.items.filter((run) => !known.has(run.id))];
      const next = older.next ?? (older.items.length ? null : data.next);
      return html`<${List} all=${all} next=${next} text=${text} filter=${filter} selection=${selection} more=${more} />`;
    }} /><//>`;
}

function List({ all, next, text, filter, selection, more }) {
  const shown = text
    ? all.filter((run) =>
        `${run.id} ${run.agent} ${run.session ?? ""} ${run.reason ?? ""}`.toLowerCase().includes(text.toLowerCase()),
      )
    : all;
  const cursor = useCursor(shown, (run) => go(link(["runs", run.id])));
  useKeys({ x: () => (cursor.current ? selection.toggle(shown, cursor.current) : false) });
  if (shown.length === 0)
    return html`<${Nothing} filtered=${text || filter.agent || filter.session || filter.status.length} text=${text} />`;
  return html`
    <div class="card"><${RunTable} runs=${shown} cursor=${cursor.current}
      selected=${may("operator") ? selection.ids : undefined}
      onSelect=${(id, range) => selection.toggle(shown, id, range)} onAll=${() => selection.all(shown)} /></div>
    <p class="list-foot"><span class="muted">${count(shown.length, "run")}${next ? ", newest first" : ""}</span>
      ${next && html`<button type="button" class="button" onClick=${() => more(next)}>Load more</button>`}</p>
    ${selection.ids.size > 0 && html`<${Bulk} shown=${shown} selection=${selection} filter=${filter}
      matching=${!text && (next !== null || all.length > shown.length)} />`}`;
}

function Filters({ filter, text }) {
  const search = useRef(null);
  useKeys({ "/": () => search.current.focus() });
  const toggle = (status) =>
    setQuery({
      status: filter.status.includes(status) ? filter.status.filter((one) => one !== status) : [...filter.status, status],
    });
  const enter = (event) => {
    if (event.key === "Enter" && /^run_\w{8,}$/.test(text.trim())) go(link(["runs", text.trim()]));
    if (event.key === "Escape") event.target.blur();
  };
  return html`<div class="filters">
    <div class="chips" role="group" aria-label="Status">
      ${STATUSES.map(
        (status) => html`<button type="button" key=${status} class=${names("chip", { on: filter.status.includes(status) })}
      aria-pressed=${filter.status.includes(status)} onClick=${() => toggle(status)}>${status}</button>`,
      )}</div>
    <div class="filter-inputs">
      <${Filter} name="agent" value=${filter.agent} /><${Filter} name="session" value=${filter.session} />
      <label class="search"><${Icon} name="search" size="s" /><span class="visually-hidden">Search</span>
        <input class="input" type="search" ref=${search} placeholder="Id or text" value=${text} onKeyDown=${enter}
          onInput=${(event) => setQuery({ q: event.target.value })} /></label>
      ${filter.parent && html`<button type="button" class="chip on"
        onClick=${() => setQuery({ parent: null })}>children of ${filter.parent} <${Icon} name="close" size="s" />
        </button>`}
    </div>
  </div>`;
}

function Filter({ name, value }) {
  return html`<label><span class="visually-hidden">${name}</span>
    <input class="input" placeholder=${name[0].toUpperCase() + name.slice(1)} value=${value ?? ""}
      onChange=${(event) => setQuery({ [name]: event.target.value.trim() })} /></label>`;
}

function Bulk({ shown, selection, filter, matching }) {
  const { ids, everything } = selection;
  const all = shown.every((run) => ids.has(run.id));
  const chosen = everything ? "all matching" : count(ids.size, "run");
  const call = (action) => async () => {
    const body = everything ? { action, filter: clean(filter) } : { action, ids: [...ids] };
    const done = await attempt(() => post("v1/bulk/runs", body));
    if (done) tell(action, done.items);
    if (done) selection.clear();
  };
  const cancel = () =>
    confirm(
      {
        title: `Cancel ${chosen}?`,
        text: "Their clean-up code runs, then they end for good.",
        action: "Cancel them",
        danger: true,
      },
      call("cancel"),
    );
  return html`<div class="bulk floating" role="region" aria-label="Chosen runs">
    <strong>${chosen}</strong>
    ${!all && html`<button type="button" class="button quiet small"
      onClick=${() => selection.all(shown)}>Choose all shown</button>`}
    ${all && matching && !everything && html`<button type="button" class="button quiet small"
      onClick=${selection.chooseEverything}>Choose all that match, also those not loaded</button>`}
    <span class="bulk-actions">
      <button type="button" class="button small" onClick=${call("pause")}><${Icon} name="pause" size="s" />Pause</button>
      <button type="button" class="button small" onClick=${call("resume")}><${Icon} name="play" size="s" />Resume</button>
      <button type="button" class="button small" onClick=${call("retry")}><${Icon} name="retry" size="s" />Retry</button>
      <button type="button" class="button small danger-text" onClick=${cancel}>
        <${Icon} name="stop" size="s" />Cancel</button>
      <button type="button" class="button quiet small" onClick=${selection.clear} aria-label="Choose none">
        <${Icon} name="close" size="s" /></button>
    </span>
  </div>`;
}

function Nothing({ filtered, text }) {
  if (!filtered)
    return html`<${Empty} icon="runs" title="No runs yet">Start one from <a
      href=${link("agents")}>an agent's page</a>, or: <code>perdure run FILE.py:agent</code><//>`;
  return html`<${Empty} icon="search" title="No run fits">
    ${/^run_/.test(text) ? html`Open <a href=${link(["runs", text.trim()])}>${text}</a> directly, or ` : ""}
    <a href=${link("runs")}>clear the filters</a><//>`;
}

/** What is chosen, by id: a refresh changes nothing about it. */
function useSelection(key) {
  const [state, setState] = useState({ ids: new Set(), everything: false, last: null });
  useEffect(() => setState({ ids: new Set(), everything: false, last: null }), [key]);
  const clear = () => setState({ ids: new Set(), everything: false, last: null });
  const all = (shown) => {
    if (shown.every((run) => state.ids.has(run.id))) clear();
    else setState({ ids: new Set([...state.ids, ...shown.map((run) => run.id)]), everything: false, last: null });
  };
  const toggle = (shown, id, range = false) => {
    const ids = new Set(state.ids);
    const from = range ? shown.findIndex((run) => run.id === state.last) : -1;
    const to = shown.findIndex((run) => run.id === id);
    if (from >= 0) for (const run of shown.slice(Math.min(from, to), Math.max(from, to) + 1)) ids.add(run.id);
    else if (!ids.delete(id)) ids.add(id);
    setState({ ids, everything: false, last: id });
  };
  return { ...state, clear, all, toggle, chooseEverything: () => setState({ ...state, everything: true }) };
}

function tell(action, items) {
  const refused = items.filter((item) => !item.ok);
  const words = { pause: "pausing", resume: "resumed", cancel: "cancelling", retry: "trying again" }[action];
  if (items.length > refused.length) notify(`${count(items.length - refused.length, "run")} ${words}`, "good");
  if (refused.length)
    notify(
      `${count(refused.length, "run")} refused: ${refused[0].problem?.detail ?? refused[0].problem?.title ?? ""}`,
      "bad",
    );
}

const clean = (filter) =>
  Object.fromEntries(Object.entries(filter).filter(([, value]) => value && value.length));
