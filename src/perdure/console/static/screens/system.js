/** Is the server well? Nodes, shards, backlog, checks with their remedies; schedules, webhooks, keys. */

import { get } from "../api.js";
import { html, useEffect } from "../dom.js";
import { useLive } from "../live.js";
import { link } from "../router.js";
import { may } from "../store.js";
import { count, span } from "../text.js";
import { Icon } from "../parts/icon.js";
import { Keyring } from "../parts/keyring.js";
import { Loaded, Page, Section, Tabs } from "../parts/page.js";
import { ScheduleList } from "../parts/schedules.js";
import { Ago } from "../parts/time.js";
import { WebhookList } from "../parts/webhooks.js";

const LOOK_EVERY_MS = 5_000;

/** @param {{tab: string}} props */
export function SystemScreen({ tab }) {
  const tabs = [
    ["health", "Health"],
    ["schedules", "Schedules"],
    ["webhooks", "Webhooks"],
    ...(may("admin") ? [["keys", "Keys"]] : []),
  ].map(([id, label]) => ({ id, label, href: link(["system", id]) }));
  return html`<${Page} title="System"><${Tabs} tabs=${tabs} current=${tab} />
    ${tab === "health" && html`<${Health} />`}${tab === "schedules" && html`<${ScheduleList} />`}
    ${tab === "webhooks" && html`<${WebhookList} />`}${tab === "keys" && may("admin") && html`<${Keyring} />`}<//>`;
}

function Health() {
  const system = useLive((signal) => get("v1/system", {}, signal), [], { concerns: () => false });
  useEffect(() => {
    const timer = setInterval(() => !document.hidden && system.reload(), LOOK_EVERY_MS);
    return () => clearInterval(timer);
  }, []);
  return html`<${Loaded} of=${system} view=${(data) => html`
    <${Figures} lag=${data.lag} nodes=${data.nodes} agents=${data.agents} />
    <p class="meta"><span>Perdure ${data.version}</span><span>${data.mode}</span><span class="mono">${data.store}</span></p>
    ${
      data.checks?.length > 0 &&
      html`<${Section} title="Checks">
      <ul class="card rows">${data.checks.map((check) => html`<${Check} key=${check.check} check=${check} />`)}</ul><//>`
    }
    <${Section} title="Agents"><ul class="card rows">
      ${data.agents.map((agent) => html`<${Agent} key=${agent.agent} agent=${agent} />`)}</ul><//>
    <${Section} title="Nodes"><ul class="card rows">
      ${data.nodes.map((node) => html`<${Node} key=${node.id} node=${node} here=${node.id === data.node} />`)}</ul>
      <//>`} />`;
}

function Figures({ lag, nodes, agents }) {
  const total = agents.reduce((sum, agent) => sum + agent.shards, 0);
  const owned = agents.reduce((sum, agent) => sum + agent.owned, 0);
  return html`<dl class="figures">
    <${Figure} name="Nodes" value=${nodes.filter((node) => node.alive).length} more="alive" />
    <${Figure} name="Shards" value=${total} more=${`${owned} owned, ${total - owned} free`} />
    <${Figure} name="Queued" value=${lag.queued} more=${oldest(lag.oldest_queued_seconds, "runs that could begin")} />
    <${Figure} name="Due" value=${lag.due} more=${oldest(lag.oldest_due_seconds, "timers that are over")} />
    <${Figure} name="Unread" value=${lag.unread} more=${oldest(lag.oldest_unread_seconds, "signals not yet taken")} />
  </dl>`;
}

const oldest = (seconds, otherwise) =>
  seconds === null || seconds === undefined ? otherwise : `oldest ${span(seconds * 1000)}`;

const Figure = ({ name, value, more }) => html`<div class="figure"><dt>${name}</dt>
  <dd>${Number(value).toLocaleString("en")}</dd><dd class="muted">${more}</dd></div>`;

const VERDICTS = { ok: ["check", "green"], warn: ["alert", "amber"], fail: ["alert", "red"] };

function Check({ check }) {
  const [icon, tone] = VERDICTS[check.verdict] ?? VERDICTS.warn;
  return html`<li class="row"><span class=${`mark tone-${tone}`} role="img" aria-label=${check.verdict}>
    <${Icon} name=${icon} size="s" /></span>
    <div class="row-main stacked"><p><strong>${check.check}</strong> <span class="muted">${check.found}</span>
      </p>${check.remedy && check.verdict !== "ok" && html`<p class="remedy">${check.remedy}</p>`}</div></li>`;
}

function Agent({ agent }) {
  return html`<li class="row"><a class="row-main" href=${link(["agents", agent.agent])}><strong>${agent.agent}</strong></a>
    <p class="meta"><span>${count(agent.nodes, "node")}</span>
      <span>${agent.owned} of ${count(agent.shards, "shard")} owned</span>
      ${agent.queued > 0 && html`<span>${agent.queued} queued</span>`}${
        agent.unread > 0 &&
        html`<span>
        ${agent.unread} unread</span>`
      }
      ${agent.nodes === 0 && html`<span class="remedy">no worker: perdure work FILE.py</span>`}</p></li>`;
}

function Node({ node, here }) {
  return html`<li class="row"><div class="row-main stacked">
    <p><strong class="mono">${node.id}</strong>${
      node.place &&
      html` <span class="muted">${node.place}
      </span>`
    }${here && html`<span class="tag">this one</span>`}
      ${node.draining && html`<span class="tag">draining</span>`}${!node.alive && html`<span class="tag">dead</span>`}</p>
    <p class="meta"><span>started <${Ago} time=${node.started} /></span><span>${count(node.shards, "shard")}</span>
      ${known(node.moving) && html`<span>${count(node.moving, "moving run")}</span>`}${
        known(node.steps) &&
        html`<span>
        ${count(node.steps, "step")} done</span>`
      }
      ${known(node.steps_per_second) && html`<span>${node.steps_per_second} steps/s</span>`}</p></div></li>`;
}

const known = (figure) => figure !== null && figure !== undefined;
