/** The agents of this server: start one from a form and watch it, copy how programs start it, read its code. */

import { at, get, post } from "../api.js";
import { html, names, useEffect, useState } from "../dom.js";
import { Feed } from "../journal/feed.js";
import { useLive } from "../live.js";
import { go, link } from "../router.js";
import { firstValue, validate } from "../schema.js";
import { attempt, may } from "../store.js";
import { count, shortId } from "../text.js";
import { AskCard } from "../parts/ask.js";
import { useCursor } from "../parts/cursor.js";
import { SchemaForm } from "../parts/form.js";
import { Icon } from "../parts/icon.js";
import { Json } from "../parts/json.js";
import { Empty, Loaded, Page, Section, Tabs } from "../parts/page.js";
import { RunTable } from "../parts/runs.js";
import { ScheduleList } from "../parts/schedules.js";
import { Snippets } from "../parts/snippets.js";
import { Source } from "../parts/source.js";
import { StatusPill } from "../parts/status.js";
import { StoryView } from "../parts/story.js";

export function AgentsScreen() {
  const agents = useLive((signal) => get("v1/agents", {}, signal), [], { concerns: () => false });
  return html`<${Page} title="Agents">
    <${Loaded} of=${agents} view=${({ items }) => html`<${AgentList} items=${items} />`} /><//>`;
}

function AgentList({ items }) {
  const cursor = useCursor(
    items.map((agent) => ({ ...agent, id: agent.name })),
    (agent) => go(link(["agents", agent.name])),
  );
  if (items.length === 0)
    return html`<${Empty} icon="agent"
      title="No agents">Serve a file that defines one: <code>perdure dev shop.py</code>. To write one: <code>perdure new</code><//>`;
  return html`<ul class="agent-list">
    ${items.map(
      (agent) => html`<li key=${agent.name} data-cursor=${cursor.current === agent.name}>
    <a class="agent-card" href=${link(["agents", agent.name])}><span class="agent-mark"><${Icon} name="agent" /></span>
      <span class="agent-what"><strong>${agent.name}</strong>
        <span class="muted">${agent.description || "No description"}</span></span>
      <span class="meta"><span>version ${agent.version}</span><${Worker} agent=${agent} /></span></a></li>`,
    )}</ul>`;
}

const Worker = ({ agent }) => html`<span class=${names("worker", { off: !agent.working })}>
  <i class="dot" />${agent.working ? "ready" : "no worker"}</span>`;

/** @param {{name: string, tab: string}} props */
export function AgentScreen({ name, tab }) {
  const agent = useLive((signal) => get(at("agents", name), {}, signal), [], { concerns: () => false });
  return html`<${Loaded} of=${agent} view=${(data) => html`<${AgentView} agent=${data} tab=${tab} />`} />`;
}

function AgentView({ agent, tab }) {
  const [input, setInput] = useState(() => firstValue(agent.input_schema ?? {}));
  const [run, setRun] = useState(null);
  const tabs = [
    ["start", "Start"],
    ["api", "Endpoints"],
    ["source", "Source"],
    ["runs", "Runs"],
    ["schedules", "Schedules"],
  ].map(([id, label]) => ({ id, label, href: link(["agents", agent.name, id]) }));
  const facts = html`${agent.description || "No description"} <span class="meta inline">
    <span>version ${agent.version}${agent.versions?.length > 1 ? ` of ${agent.versions.join(", ")}` : ""}</span>
    <${Worker} agent=${agent} />${agent.busy && html`<span>busy: ${agent.busy}</span>`}</span>`;
  return html`<${Page} title=${agent.name} lead=${facts}>
    <${Tabs} tabs=${tabs} current=${tab} />
    ${
      tab === "start" &&
      html`<div class="playground">
      <${StartForm} agent=${agent} input=${input} setInput=${setInput} onStarted=${setRun} />
      ${run ? html`<${Watch} key=${run} id=${run} />` : html`<${Empty} icon="play"
        title="Its story appears here">Start a run and watch what it does, live.<//>`}</div>`
    }
    ${tab === "api" && html`<${Endpoints} agent=${agent} input=${input} />`}
    ${tab === "source" && html`<${AgentSource} name=${agent.name} />`}
    ${tab === "runs" && html`<${AgentRuns} name=${agent.name} />`}
    ${tab === "schedules" && html`<${ScheduleList} agent=${agent.name} />`}
  <//>`;
}

function StartForm({ agent, input, setInput, onStarted }) {
  const [more, setMore] = useState({ session: "", key: "", priority: "" });
  const [problems, setProblems] = useState({});
  const [busy, setBusy] = useState(false);
  const schema = agent.input_schema ?? {};
  const start = async (event) => {
    event.preventDefault();
    const found = validate(schema, input ?? {});
    setProblems(found);
    if (Object.keys(found).length) return;
    setBusy(true);
    const options = {
      query: { session: more.session, priority: more.priority },
      headers: more.key ? { "Idempotency-Key": more.key } : {},
    };
    const run = await attempt(() => post(at("agents", agent.name, "runs"), input ?? {}, options));
    setBusy(false);
    if (run) onStarted(run.id);
  };
  const field = (name, label, hint) => html`<label class="field"><span class="label">${label}</span>
    <input class="input" name=${name} value=${more[name]}
      onInput=${(event) => setMore({ ...more, [name]: event.target.value })} /><span class="hint">${hint}</span></label>`;
  return html`<form class="card pad stack" onSubmit=${start} novalidate>
    <${SchemaForm} schema=${schema} value=${input} onChange=${setInput} problems=${problems} />
    <details class="more"><summary>More</summary><div class="stack">
      ${field("session", "Session", "The durable identity whose state it uses; one run at a time.")}
      ${field("key", "Idempotency key", "Starting twice with the same key gives the same run.")}
      ${field("priority", "Priority", "Higher goes first.")}</div></details>
    <footer class="ask-foot"><button class="button primary" disabled=${busy || !may("operator")}>
      <${Icon} name="play" />Start</button>
      ${!may("operator") && html`<span class="hint">Your key may look, not start: that needs the scope operator.</span>`}
        </footer>
  </form>`;
}

/** The story of a run just started, live, with what it asks. */
function Watch({ id }) {
  const [feed] = useState(() => new Feed(id));
  useEffect(() => {
    feed.open();
    return () => feed.close();
  }, []);
  const version = feed.version.value;
  const open = feed.steps.list
    .filter(({ kind, status }) => status === "open" && (kind === "ask" || kind === "approval"))
    .map(({ refers }) => refers)
    .join();
  const run = useLive((signal) => get(at("runs", id), {}, signal), [open, feed.over], {
    concerns: ({ runs }) => !runs.length || runs.includes(id),
  });
  const asks = useLive(
    (signal) => (open ? get(at("runs", id, "asks"), {}, signal) : Promise.resolve({ items: [] })),
    [open],
    { concerns: () => false },
  );
  return html`<div class="card pad watch"><header class="section-head"><h2>
    <a class="mono" href=${link(["runs", id])}>${shortId(id)}</a>
    </h2>${run.data && html`<${StatusPill} status=${run.data.status} />`}</header>
    ${run.data?.reason && html`<p class="reason">${run.data.reason}</p>`}
    ${(asks.data?.items ?? []).filter((ask) => open.includes(ask.id)).map((ask) => html`<${AskCard} key=${ask.id}
      ask=${ask} compact />`)}
    <${StoryView} turns=${feed.story.turns} version=${version} live=${!feed.over} /></div>`;
}

function Endpoints({ agent, input }) {
  return html`<${Section} title="Start it"><${Snippets} agent=${agent} input=${input} /><//>
    <div class="columns"><${Section} title="Input"><div class="card pad">
      <${Json} value=${agent.input_schema ?? {}} open=${3} /></div><//>
    <${Section} title="Output"><div class="card pad"><${Json} value=${agent.output_schema ?? {}} open=${3} /></div><//>
      </div>`;
}

function AgentSource({ name }) {
  const source = useLive((signal) => get(at("agents", name, "source"), {}, signal), [], { concerns: () => false });
  return html`<${Loaded} of=${source} view=${(data) => html`<${Source} source=${data} />`} />`;
}

function AgentRuns({ name }) {
  const runs = useLive((signal) => get("v1/runs", { agent: name, limit: 50 }, signal), []);
  return html`<${Loaded} of=${runs} view=${({ items, next }) =>
    items.length
      ? html`<div class="card"><${RunTable} runs=${items} /></div>${
          next &&
          html`<p class="list-foot">
      <a href=${link("runs", { agent: name })}>More than ${count(items.length, "run")}: see them all</a></p>`
        }`
      : html`<${Empty} icon="runs" title="It has not run yet" />`} />`;
}
