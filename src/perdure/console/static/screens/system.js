/** Is the server well? Nodes, shards, backlog, checks with their remedies; schedules, webhooks, keys. */

import { get } from "../api.js";
import { html, useEffect } from "../dom.js";
import { useLive } from "../live.js";
import { link } from "../router.js";
import { may, now } from "../store.js";
import { ago, count, span } from "../text.js";
import { Icon } from "../parts/icon.js";
import { Keyring } from "../parts/keyring.js";
import { Loaded, Page, Section, Tabs } from "../parts/page.js";
import { ScheduleList } from "../parts/schedules.js";
import { WebhookList } from "../parts/webhooks.js";

const LOOK_EVERY_MS = 5_000;

/** @param {{tab: string}} props */
export function SystemScreen({ tab }) {
  const tabs = [["health", "Health"], ["schedules", "Schedules"], ["webhooks", "Webhooks"], ...(may("admin") ? [["keys", "Keys"]] : [])]
    .map(([id, label]) => ({ id, label, href: link(["system", id]) }));
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
    <dl class="figures">
      <${Figure} name="Nodes" value=${data.nodes.length} />
      <${Figure} name="Shards" value=${data.shards.total} more=${`${data.shards.owned} owned, ${data.shards.free} free`} tone=${data.shards.free ? "amber" : ""} />
      <${Figure} name="Queued" value=${data.backlog.queued} more=${data.backlog.oldest_seconds ? `oldest ${span(data.backlog.oldest_seconds * 1000)}` : "nothing waits"} />
      <${Figure} name="Due" value=${data.backlog.due} more="timers that are over" />
      <${Figure} name="Unread" value=${data.backlog.unread} more="signals not yet taken" />
    </dl>
    <p class="meta"><span>Perdure ${data.version}</span><span>${data.mode}</span><span class="mono">${storeOf(data.store)}</span></p>
    <${Section} title="Checks"><ul class="card rows">${data.checks.map((check) => html`<${Check} key=${check.check} check=${check} />`)}</ul><//>
    <${Section} title="Nodes"><ul class="card rows">${data.nodes.map((node) => html`<${Node} key=${node.id} node=${node} />`)}</ul><//>`} />`;
}

const Figure = ({ name, value, more, tone = "" }) => html`<div class=${`figure ${tone}`}><dt>${name}</dt><dd>${Number(value).toLocaleString("en")}</dd>${more && html`<dd class="muted">${more}</dd>`}</div>`;

const VERDICTS = { ok: ["check", "green"], warn: ["alert", "amber"], fail: ["alert", "red"] };

function Check({ check }) {
  const [icon, tone] = VERDICTS[check.verdict] ?? VERDICTS.warn;
  return html`<li class="row"><span class=${`mark tone-${tone}`} role="img" aria-label=${check.verdict}><${Icon} name=${icon} size="s" /></span>
    <div class="row-main stacked"><p><strong>${check.check}</strong> <span class="muted">${check.found}</span></p>${check.remedy && check.verdict !== "ok" && html`<p class="remedy">${check.remedy}</p>`}</div></li>`;
}

function Node({ node }) {
  return html`<li class="row"><div class="row-main stacked"><p><strong class="mono">${node.id}</strong>${node.place && html` <span class="muted">${node.place}</span>`}${node.draining && html` <span class="tag">draining</span>`}${node.alive === false && html` <span class="tag">dead</span>`}</p>
    <p class="meta">${node.started && html`<span>up since ${ago(now.value - Date.parse(node.started))}</span>`}${node.shards !== null && node.shards !== undefined && html`<span>${count(size(node.shards), "shard")}</span>`}
      ${node.moving !== null && node.moving !== undefined && html`<span>${count(size(node.moving), "moving run")}</span>`}${node.steps_per_second !== null && node.steps_per_second !== undefined && html`<span>${node.steps_per_second} steps/s</span>`}</p></div></li>`;
}

const size = (figure) => (Array.isArray(figure) ? figure.length : Number(figure));
const storeOf = (store) => (typeof store === "string" ? store : store?.url ?? JSON.stringify(store));
