/** What needs me, what is going on, and how do I start something? */

import { at, get } from "../api.js";
import { html } from "../dom.js";
import { useLive } from "../live.js";
import { go, link } from "../router.js";
import { brief, count, shortId } from "../text.js";
import { act, retry } from "../parts/actions.js";
import { AskCard } from "../parts/ask.js";
import { Icon } from "../parts/icon.js";
import { Empty, Loaded, Page, Section } from "../parts/page.js";
import { RunTable } from "../parts/runs.js";
import { Snippets } from "../parts/snippets.js";
import { STATUSES, StatusPill } from "../parts/status.js";
import { Ago } from "../parts/time.js";
import { useCursor } from "../parts/cursor.js";

const ASKS_SHOWN = 5;
const PROGRESS_EVENTS = 1_000;

export function HomeScreen() {
  const overview = useLive((signal) => get("v1/overview", {}, signal), []);
  return html`<${Page} title="Home">
    <${Loaded} of=${overview} view=${(data) => html`<${Overview} ...${data} reload=${overview.reload} />`} /><//>`;
}

function Overview({ needs_you: needs, active, counts, agents, reload }) {
  const total = Object.values(counts).reduce((sum, one) => sum + one, 0);
  const waiting = needs.asks.length + needs.failed.length + needs.stuck.length;
  return html`
    ${total > 0 && html`<${Counts} counts=${counts} />`}
    <${Section} title="Needs you" more=${waiting > 0 && html`<a href=${link("inbox")}>Open inbox</a>`}>
      ${waiting === 0 && html`<div class="calm"><${Icon} name="check" /><span>Nothing waits for you.</span></div>`}
      ${
        needs.asks.length > 0 &&
        html`<div class="ask-grid">
        ${needs.asks.slice(0, ASKS_SHOWN).map((ask) => html`<${AskCard} key=${ask.id} ask=${ask} onSettled=${reload} />`)}
        </div>`
      }
      ${
        needs.asks.length > ASKS_SHOWN &&
        html`<p><a href=${link("inbox")}>
        ${count(needs.asks.length - ASKS_SHOWN, "more", "more")} in the inbox</a></p>`
      }
      ${needs.failed.length > 0 && html`<${Troubled} title="Failed" runs=${needs.failed} />`}
      ${needs.stuck.length > 0 && html`<${Troubled} title="Stuck" runs=${needs.stuck} />`}
    <//>
    ${(active.length > 0 || total > 0) && html`<${Section} title="Active" more=${html`<a
      href=${link("runs")}>All runs</a>`}><${Active} runs=${active} /><//>`}
    <${Start} agents=${agents} first=${total === 0} />`;
}

function Counts({ counts }) {
  return html`<ul class="counts">${STATUSES.filter((status) => counts[status]).map(
    (status) => html`<li key=${status}>
    <a class="count-card" href=${link("runs", { status })}><span class="count-number">${counts[status].toLocaleString("en")}
      </span><${StatusPill} status=${status} /></a></li>`,
  )}</ul>`;
}

function Troubled({ title, runs }) {
  return html`<ul class="troubled" aria-label=${title}>${runs.map(
    (run) => html`<li key=${run.id}>
    <${StatusPill} status=${run.status} />
    <div class="troubled-what"><a href=${link(["runs", run.id])}>
      <strong>${run.agent}</strong>${run.session ? ` / ${run.session}` : ""} <span class="mono muted">${shortId(run.id)}
      </span></a>
      <span class="reason">${run.error?.message ?? run.reason ?? title.toLowerCase()}</span></div>
    <span class="muted"><${Ago} time=${run.updated} /></span>
    ${["failed", "quarantined"].includes(run.status) && html`<button type="button" class="button small"
      onClick=${() => retry(run)}><${Icon} name="retry" size="s" />Retry</button>`}
    ${run.status === "paused" && html`<button type="button" class="button small"
      onClick=${() => act(run, "resume", "Resumed")}><${Icon} name="play" size="s" />Resume</button>`}
  </li>`,
  )}</ul>`;
}

function Active({ runs }) {
  const cursor = useCursor(runs, (run) => go(link(["runs", run.id])));
  if (runs.length === 0) return html`<div class="calm"><${Icon} name="leaf" /><span>Nothing is moving.</span></div>`;
  return html`<div class="card">
    <${RunTable} runs=${runs} cursor=${cursor.current} detail=${(run) => run.status === "running" && html`<${Progress}
      run=${run} />`} /></div>`;
}

/** The last thing that a running run reported. */
function Progress({ run }) {
  const query = { type: "progress", after: Math.max(0, run.seq - PROGRESS_EVENTS), limit: PROGRESS_EVENTS };
  const reports = useLive((signal) => get(at("runs", run.id, "events"), query, signal), [run.id], {
    concerns: ({ runs }) => runs.includes(run.id),
  });
  const last = reports.data?.items.at(-1);
  return last ? html`<span class="reason">${brief(last.data)}</span>` : null;
}

function Start({ agents, first }) {
  const name = agents[0];
  const agent = useLive((signal) => (name ? get(at("agents", name), {}, signal) : Promise.resolve(null)), [name], {
    concerns: () => false,
  });
  if (!name) {
    return html`<${Section} title="Start"><${Empty} title="No agent is here yet">
      Write one with <code>perdure new</code>, then serve it: <code>perdure dev shop.py</code><//><//>`;
  }
  return html`<${Section} title=${first ? "Start your first run" : "Start a run"} more=${html`<a
    href=${link(["agents", name])}>Fill in a form instead</a>`}>
    <div class="start">
      ${agent.data && html`<${Snippets} agent=${agent.data} />`}
      <ul class="agent-chips" aria-label="Agents">${agents.slice(0, 12).map(
        (one) => html`<li key=${one}>
        <a class="chip" href=${link(["agents", one])}><${Icon} name="agent" size="s" />${one}</a></li>`,
      )}</ul>
    </div><//>`;
}
