/** API keys: made once, shown once, revoked at any time. */

import { at, get, post, remove } from "../api.js";
import { html, useState } from "../dom.js";
import { useLive } from "../live.js";
import { attempt } from "../store.js";
import { Copy } from "./copy.js";
import { confirm, openDialog } from "./dialog.js";
import { Icon } from "./icon.js";
import { Empty, Loaded } from "./page.js";
import { Ago, Countdown } from "./time.js";

const SCOPES = [
  ["viewer", "look"],
  ["operator", "start, send, pause, fork, …"],
  ["approver", "answer and approve"],
  ["admin", "everything, also keys"],
];
const DAY_SECONDS = 86_400;

export function Keyring() {
  const keys = useLive((signal) => get("v1/keys", {}, signal), [], { concerns: () => false });
  const create = () =>
    openDialog({ title: "New API key", view: (close) => html`<${KeyForm} close=${close} onMade=${keys.reload} />` });
  return html`<p class="list-foot top">
    <span class="muted">A key is stored as a hash; it can be seen only when it is made.</span>
    <button type="button" class="button primary" onClick=${create}><${Icon} name="plus" />New key</button></p>
    <${Loaded} of=${keys} view=${({ items }) =>
      items.length === 0
        ? html`<${Empty} icon="key" title="No keys" />`
        : html`<ul class="card rows">${items.map((key) => html`<${Key} key=${key.id} item=${key} reload=${keys.reload} />`)}
        </ul>`} />`;
}

function Key({ item, reload }) {
  const revoke = () =>
    confirm(
      { title: `Revoke ${item.name}?`, text: "Whoever uses it is refused from now on.", action: "Revoke", danger: true },
      async () => {
        await attempt(() => remove(at("keys", item.id)), "Revoked");
        reload();
      },
    );
  const rotate = async () => {
    const made = await attempt(() => post(at("keys", item.id, "rotate")));
    if (made) openDialog({ title: "New key", view: (close) => html`<${Made} made=${made} close=${close} />` });
    reload();
  };
  return html`<li class="row"><div class="row-main stacked"><p>
    <strong>${item.name}</strong> ${(item.scopes ?? []).map((scope) => html`<span class="tag">${scope}</span>`)}</p>
    <p class="meta"><span class="mono">${item.id}</span>${
      item.created &&
      html`<span>made <${Ago} time=${item.created} />
      </span>`
    }${item.expires && html`<span>expires in <${Countdown} until=${item.expires} past="expired" /></span>`}</p>
      </div>
    <div class="actions"><button type="button" class="button small" onClick=${rotate}>Rotate</button>
      <button type="button" class="button small danger-text" onClick=${revoke}>Revoke</button></div></li>`;
}

function KeyForm({ close, onMade }) {
  const [name, setName] = useState("");
  const [scopes, setScopes] = useState(["viewer"]);
  const [days, setDays] = useState(90);
  const [made, setMade] = useState(null);
  const submit = async (event) => {
    event.preventDefault();
    const body = { name, scopes, ...(days ? { expires_seconds: days * DAY_SECONDS } : {}) };
    const key = await attempt(() => post("v1/keys", body));
    if (key) setMade(key);
    if (key) onMade();
  };
  if (made) return html`<${Made} made=${made} close=${close} />`;
  const toggle = (scope) => setScopes(scopes.includes(scope) ? scopes.filter((one) => one !== scope) : [...scopes, scope]);
  return html`<form class="stack" onSubmit=${submit}>
    <label class="field"><span class="label">Name</span>
      <input class="input" required autofocus placeholder="Who or what uses it" value=${name}
        onInput=${(event) => setName(event.target.value)} /></label>
    <fieldset class="fieldset bare"><legend class="label">It may</legend>
      ${SCOPES.map(
        ([scope, words]) => html`<label class="check" key=${scope}>
      <input type="checkbox" checked=${scopes.includes(scope)} onChange=${() => toggle(scope)} />
      <span>${scope} <span class="muted">${words}</span></span></label>`,
      )}</fieldset>
    <label class="field"><span class="label">Expires after days <span class="muted">0: never</span></span>
      <input class="input" type="number" min="0" value=${days}
        onInput=${(event) => setDays(event.target.valueAsNumber || 0)} /></label>
    <footer class="dialog-foot"><button type="button" class="button" onClick=${close}>Close</button>
      <button class="button primary" disabled=${scopes.length === 0}>Make key</button></footer>
  </form>`;
}

function Made({ made, close }) {
  return html`<div class="stack"><p>This is the only time that the key is shown. Put it where it belongs now.</p>
    <div class="secret"><code>${made.key}</code><${Copy} text=${made.key} label="Copy key" /></div>
    <footer class="dialog-foot"><button type="button" class="button primary" onClick=${close}>I have it</button></footer>
      </div>`;
}
