/** A question or an approval, and what a person can say to it. */

import { at, post } from "../api.js";
import { html, useEffect, useMemo, useRef, useState } from "../dom.js";
import { useKeys } from "../keys.js";
import { link } from "../router.js";
import { firstValue, same, validate } from "../schema.js";
import { attempt, may, notify } from "../store.js";
import { SchemaForm } from "./form.js";
import { Icon } from "./icon.js";
import { Value } from "./json.js";
import { Ago, Countdown } from "./time.js";

/**
 * @param {object} props
 * @param {object} props.ask as GET /v1/asks gives it
 * @param {boolean} [props.compact] without where it comes from
 * @param {boolean} [props.keys] `a` and `r` decide
 * @param {() => void} [props.onSettled]
 */
export function AskCard({ ask, compact = false, keys = false, onSettled = () => {} }) {
  return html`<article class="ask" aria-label=${ask.title}>
    <header class="ask-head">
      <span class=${`ask-mark mark-${ask.kind}`}><${Icon} name=${ask.kind === "approval" ? "shield" : "question"} /></span>
      <div class="ask-what">
        <h2>${ask.kind === "approval" ? html`Approve <code>${ask.action ?? ask.title}</code>` : ask.title}</h2>
        <p class="meta">
          ${!compact && html`<a href=${link(["runs", ask.run])}>${ask.agent}${ask.session ? ` / ${ask.session}` : ""}</a>`}
          ${ask.to && html`<span>for ${ask.to}</span>`}
          <span>asked <${Ago} time=${ask.created} /></span>
          ${ask.deadline && html`<span>time left <${Countdown} until=${ask.deadline} past="over" /></span>`}
        </p>
      </div>
    </header>
    ${
      ask.status && ask.status !== "open"
        ? html`<${Settled} ask=${ask} />`
        : may("approver")
          ? ask.kind === "approval"
            ? html`<${Approval} ask=${ask} keys=${keys} onSettled=${onSettled} />`
            : html`<${Question} ask=${ask} onSettled=${onSettled} />`
          : html`<${Value} value=${ask.args ?? {}} />
          <p class="hint">Your key may look, not decide: that needs the scope approver.</p>`
    }
  </article>`;
}

/** @param {{ask: object}} props what was said to an ask, as audit */
export function Settled({ ask }) {
  return html`<div class="ask-settled">
    <p><strong>${ask.status}</strong>
      ${ask.by ? ` by ${ask.by}` : ""}${ask.closed ? html`, <${Ago} time=${ask.closed} />` : ""}</p>
    ${ask.note && html`<p class="muted">“${ask.note}”</p>`}
    ${ask.answer !== null && ask.answer !== undefined && html`<${Value} value=${ask.answer} />`}
  </div>`;
}

function Question({ ask, onSettled }) {
  const schema = ask.schema ?? {};
  const [value, setValue] = useState(() => firstValue(schema));
  const [problems, setProblems] = useState({});
  const { busy, settle } = useSettling(ask, onSettled);
  const submit = (event) => {
    event.preventDefault();
    const found = validate(schema, value);
    setProblems(found);
    if (Object.keys(found).length === 0) settle("answer", { value }, "Answered");
  };
  return html`<form onSubmit=${submit} novalidate class="stack">
    <${SchemaForm} schema=${schema} value=${value} onChange=${setValue} problems=${problems} />
    <footer class="ask-foot"><button class="button primary" disabled=${busy}>Answer</button><${OneTapLink} ask=${ask} />
      </footer>
  </form>`;
}

function Approval({ ask, keys, onSettled }) {
  const [editing, setEditing] = useState(false);
  const [args, setArgs] = useState(ask.args ?? {});
  const [note, setNote] = useState("");
  const [problems, setProblems] = useState({});
  const rejecting = useRef(null);
  const { busy, settle } = useSettling(ask, onSettled);
  const edit = useMemo(() => changedOnly(ask.args ?? {}, args), [ask, args]);
  const edited = Object.keys(edit).length > 0;
  const said = note.trim() ? { note: note.trim() } : {};

  const approve = () => {
    const found = editing ? validate(ask.schema ?? {}, args) : {};
    setProblems(found);
    if (Object.keys(found).length === 0)
      settle("approve", { ...(edited ? { edit } : {}), ...said }, edited ? "Approved with your changes" : "Approved");
  };
  const reject = () => settle("reject", said, "Rejected");
  useEffect(() => {
    if (!editing) setArgs(ask.args ?? {});
  }, [ask, editing]);

  return html`<div class="stack">
    ${
      editing
        ? html`<${SchemaForm} schema=${ask.schema ?? {}} value=${args} onChange=${(changed) => setArgs(changed ?? args)}
          problems=${problems} />`
        : html`<div class="ask-args"><${Value} value=${ask.args ?? {}} /></div>`
    }
    <input class="input" ref=${rejecting} aria-label="Note" placeholder="Note (optional)" value=${note}
      onInput=${(event) => setNote(event.target.value)} />
    <footer class="ask-foot">
      <button type="button" class="button primary" disabled=${busy} onClick=${approve}>
        <${Icon} name="check" />${edited ? "Approve with changes" : "Approve"}</button>
      <button type="button" class="button danger" disabled=${busy} onClick=${reject}>Reject</button>
      <button type="button" class="button quiet" onClick=${() => setEditing(!editing)}>${editing ? "Undo changes" : "Edit"}
        </button>
      <${OneTapLink} ask=${ask} />
    </footer>
    ${edited && html`<p class="hint">You change ${Object.keys(edit).join(", ")}. Consent is bound to exactly what you see.</p>`}
    ${keys && html`<${DecisionKeys} approve=${approve} reject=${() => rejecting.current.focus()} />`}
  </div>`;
}

function DecisionKeys({ approve, reject }) {
  useKeys({ a: approve, r: reject });
  return null;
}

function OneTapLink({ ask }) {
  const make = async () => {
    const made = await attempt(() => post(at("asks", ask.id, "links")));
    if (!made) return;
    await navigator.clipboard?.writeText(made.url).catch(() => {});
    notify(`One-tap link (copied, works once): ${made.url}`, "good");
  };
  return html`<button type="button" class="button quiet ask-link" onClick=${make}
    title="A signed link that decides this one, for a phone or a chat"><${Icon} name="link" />One-tap link</button>`;
}

function useSettling(ask, onSettled) {
  const [busy, setBusy] = useState(false);
  const settle = async (verb, body, done) => {
    setBusy(true);
    const settled = await attempt(() => post(at("asks", ask.id, verb), body), done);
    setBusy(false);
    if (settled) onSettled(settled);
  };
  return { busy, settle };
}

const changedOnly = (before, after) =>
  Object.fromEntries(Object.entries(after).filter(([name, value]) => !same(before[name], value)));
