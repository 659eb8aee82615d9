/** Webhooks: who is told of events, and what could not be delivered. */

import { at, get, post, remove } from "../api.js";
import { html, useState } from "../dom.js";
import { useLive } from "../live.js";
import { attempt, may } from "../store.js";
import { short } from "../text.js";
import { confirm } from "./dialog.js";
import { Icon } from "./icon.js";
import { Empty, Loaded } from "./page.js";
import { Ago } from "./time.js";

export function WebhookList() {
  const webhooks = useLive((signal) => get("v1/webhooks", {}, signal), []);
  return html`<${Loaded} of=${webhooks} view=${({ items }) =>
    items.length === 0
      ? html`<${Empty} icon="send" title="No webhooks">Signed events to any URL: <code>POST /v1/webhooks</code><//>`
      : html`<ul class="card rows">
      ${items.map((webhook) => html`<${Webhook} key=${webhook.id} webhook=${webhook} reload=${webhooks.reload} />`)}
      </ul>`} />`;
}

function Webhook({ webhook, reload }) {
  const [open, setOpen] = useState(false);
  const drop = () =>
    confirm(
      {
        title: "Remove this webhook?",
        text: "Nothing is sent to it any more; what waits is dropped.",
        action: "Remove",
        danger: true,
      },
      async () => {
        await attempt(() => remove(at("webhooks", webhook.id)), "Removed");
        reload();
      },
    );
  return html`<li class="row wrap"><div class="row-main stacked"><p><strong class="mono">${webhook.url}</strong></p>
      <p class="meta"><span class="mono">${webhook.id}</span>
        ${(webhook.types ?? webhook.events ?? []).map((type) => html`<span class="tag">${type}</span>`)}</p></div>
    <div class="actions"><button type="button" class="button small" aria-expanded=${open}
      onClick=${() => setOpen(!open)}>Dead letters</button>
      ${
        may("admin") &&
        html`<button type="button" class="button small"
          onClick=${() => attempt(() => post(at("webhooks", webhook.id, "test")), "Test event is on its way")}>Test</button>
      <button type="button" class="button small danger-text" onClick=${drop}>Remove</button>`
      }</div>
    ${open && html`<${DeadLetters} id=${webhook.id} />`}</li>`;
}

function DeadLetters({ id }) {
  const dead = useLive((signal) => get(at("webhooks", id, "deliveries"), { status: "dead" }, signal), []);
  return html`<div class="row-more"><${Loaded} of=${dead} view=${({ items }) =>
    items.length === 0
      ? html`<p class="calm"><${Icon} name="check" /><span>Everything was delivered.</span></p>`
      : html`<ol class="log-lines">${items.map(
          (one) => html`<li class="log-line log-bad">
      <${Ago} time=${one.updated ?? one.created ?? one.time} /><span class="log-text">${short(one, 300)}</span>
      </li>`,
        )}</ol>`} /></div>`;
}
