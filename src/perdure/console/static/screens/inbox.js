/** Everything that waits for a person, each with what led to it; and what was decided. */

import { at, get, post } from "../api.js";
import { html, names, useEffect, useMemo, useRef, useState } from "../dom.js";
import { useLive } from "../live.js";
import { go, link, route, setQuery } from "../router.js";
import { attempt, may, notify } from "../store.js";
import { count } from "../text.js";
import { AskCard } from "../parts/ask.js";
import { useCursor } from "../parts/cursor.js";
import { confirm } from "../parts/dialog.js";
import { Icon } from "../parts/icon.js";
import { Empty, Loaded, Page, Tabs, Trouble } from "../parts/page.js";
import { StoryView } from "../parts/story.js";
import { Ago, Countdown } from "../parts/time.js";
import { Story } from "../journal/story.js";

const CONTEXT_EVENTS = 300;
const CONTEXT_TURNS = 8;

/** @param {{chosen?: string}} props id of the ask that is shown */
export function InboxScreen({ chosen }) {
  const { query } = route.value;
  const status = query.get("status") === "closed" ? "closed" : "open";
  const to = query.get("to") ?? "";
  const asks = useLive((signal) => get("v1/asks", { status, to, limit: 200 }, signal), [status, to]);
  const tabs = [
    { id: "open", label: "Open", href: link("inbox", { to }), count: status === "open" ? asks.data?.items.length : null },
    { id: "closed", label: "Decided", href: link("inbox", { status: "closed", to }) },
  ];
  return html`<${Page} title="Inbox" actions=${html`<label><span class="visually-hidden">For whom</span>
    <input class="input" placeholder="For anybody" value=${to}
      onChange=${(event) => setQuery({ to: event.target.value.trim() })} /></label>`}>
    <${Tabs} tabs=${tabs} current=${status} />
    <${Loaded} of=${asks} view=${(data) => html`<${Desk} key=${status} items=${data.items} status=${status} to=${to}
      chosen=${chosen} reload=${asks.reload} />`} /><//>`;
}

function Desk({ items, status, to, chosen, reload }) {
  const shownIds = useRef([]);
  const [selected, setSelected] = useState(new Set());
  const address = (id) => link(id ? ["inbox", id] : "inbox", { status: status === "closed" ? "closed" : null, to });
  const open = (ask) => go(address(ask.id), { replace: true });
  const cursor = useCursor(items, open);
  const current = items.find((ask) => ask.id === chosen) ?? null;

  useEffect(() => {
    if (cursor.current && cursor.current !== chosen && wide()) open({ id: cursor.current });
  }, [cursor.current]);
  useEffect(() => {
    if (chosen) cursor.set(chosen);
    else if (wide() && items.length) open(items[0]);
  }, [chosen, items.length === 0]);
  // Somebody else may decide it while we read: then the one that took its place is next.
  useEffect(() => {
    const place = shownIds.current.indexOf(chosen);
    shownIds.current = items.map((ask) => ask.id);
    if (chosen && !current && place >= 0)
      go(address(wide() ? items[Math.min(place, items.length - 1)]?.id : null), { replace: true });
    setSelected((known) => new Set([...known].filter((id) => shownIds.current.includes(id))));
  }, [items]);

  if (items.length === 0) {
    return status === "open"
      ? html`<${Empty} icon="check" title="Nothing waits for you">Questions and approvals of all runs come in here.<//>`
      : html`<${Empty} icon="inbox" title="Nothing was decided yet" />`;
  }
  const toggle = (id) =>
    setSelected((known) => (known.has(id) ? new Set([...known].filter((one) => one !== id)) : new Set([...known, id])));
  return html`<div class=${names("desk", { reading: chosen })}>
    <div class="desk-list">
      ${status === "open" && may("approver") && html`<${Batch} items=${items} selected=${selected}
        setSelected=${setSelected} reload=${reload} />`}
      <ul>${items.map(
        (ask) => html`<${Entry} key=${ask.id} ask=${ask} on=${ask.id === chosen} address=${address(ask.id)}
        checked=${selected.has(ask.id)} onCheck=${status === "open" && ask.kind === "approval" && may("approver") ? () => toggle(ask.id) : null} />`,
      )}</ul>
    </div>
    ${
      current &&
      html`<div class="desk-detail">
      <a class="desk-back" href=${address(null)}><${Icon} name="back" />Inbox</a>
      <${AskCard} key=${current.id} ask=${current} keys onSettled=${reload} />
      <${Context} key=${`context ${current.run}`} ask=${current} />
    </div>`
    }
  </div>`;
}

function Entry({ ask, on, address, checked, onCheck }) {
  return html`<li class=${names("entry", { on })} data-cursor=${on} data-ask=${ask.id}>
    ${
      onCheck &&
      html`<label class="hit">
      <input type="checkbox" checked=${checked} onChange=${onCheck} aria-label=${`Choose ${ask.title}`} /></label>`
    }
    <a href=${address} aria-current=${on ? "true" : null}>
      <span class=${`ask-mark small mark-${ask.kind}`}>
        <${Icon} name=${ask.kind === "approval" ? "shield" : "question"} size="s" /></span>
      <span class="entry-what"><strong>${ask.kind === "approval" ? (ask.action ?? ask.title) : ask.title}</strong>
        <span class="meta"><span>${ask.agent}${ask.session ? ` / ${ask.session}` : ""}</span>
          ${ask.to && html`<span>for ${ask.to}</span>`}</span></span>
      <span class="entry-when">${
        ask.status === "open"
          ? html`<${Ago} time=${ask.created} />
        ${
          ask.deadline &&
          html`<span class="entry-left"><${Icon} name="clock" size="s" />
        <${Countdown} until=${ask.deadline} past="over" /></span>`
        }`
          : html`<span class=${`decided decided-${ask.status}`}>${ask.status}</span>
          ${ask.closed && html`<${Ago} time=${ask.closed} />`}`
      }</span>
    </a></li>`;
}

/** Approvals that are decided together. */
function Batch({ items, selected, setSelected, reload }) {
  const approvals = items.filter((ask) => ask.kind === "approval");
  if (approvals.length < 2) return null;
  const all = approvals.every((ask) => selected.has(ask.id));
  const decide = (action) => async (note) => {
    const decisions = [...selected].map((id) => ({ id, action, ...(note ? { note } : {}) }));
    const done = await attempt(() => post("v1/bulk/asks", { items: decisions }));
    if (!done) return;
    const refused = done.items.filter((item) => !item.ok);
    notify(
      `${count(done.items.length - refused.length, "approval")} ${action === "approve" ? "granted" : "rejected"}`,
      "good",
    );
    if (refused.length) notify(`${refused.length} refused: ${refused[0].problem?.detail ?? ""}`, "bad");
    setSelected(new Set());
    reload();
  };
  const reject = () =>
    confirm(
      {
        title: `Reject ${count(selected.size, "approval")}?`,
        text: "Each of these actions is refused; its run hears the note.",
        action: "Reject them",
        danger: true,
        input: "Note (optional)",
      },
      decide("reject"),
    );
  const approve = () =>
    confirm(
      {
        title: `Approve ${count(selected.size, "approval")}?`,
        text: "Each action is carried out exactly as it stands there.",
        action: "Approve them",
        input: "Note (optional)",
      },
      decide("approve"),
    );
  return html`<div class=${names("bulk", { on: selected.size })}>
    <label class="check"><input type="checkbox" checked=${all}
      onChange=${() => setSelected(all ? new Set() : new Set(approvals.map((ask) => ask.id)))} />
      <span>${selected.size ? `${selected.size} chosen` : "Choose all approvals"}</span></label>
    ${
      selected.size > 0 &&
      html`<span class="bulk-actions">
      <button type="button" class="button small primary" onClick=${approve}>Approve</button>
      <button type="button" class="button small danger-text" onClick=${reject}>Reject</button></span>`
    }
  </div>`;
}

/** What led to the ask: the end of its run's story. */
function Context({ ask }) {
  const tail = useLive(
    async (signal) => {
      const run = await get(at("runs", ask.run), {}, signal);
      return get(
        at("runs", ask.run, "events"),
        { after: Math.max(0, run.seq - CONTEXT_EVENTS), limit: CONTEXT_EVENTS + 100 },
        signal,
      );
    },
    [ask.run],
    { concerns: ({ runs }) => runs.includes(ask.run) },
  );
  const turns = useMemo(() => (tail.data ? turnsOf(tail.data.items, ask) : []), [tail.data, ask.id]);
  return html`<section class="context"><header class="section-head"><h2>What led to this</h2>
    <a href=${link(["runs", ask.run])}>Open the run</a></header>
    ${tail.problem && html`<${Trouble} problem=${tail.problem} />`}
    <${StoryView} turns=${turns} last=${CONTEXT_TURNS} /></section>`;
}

function turnsOf(events, ask) {
  const story = new Story();
  for (const event of events)
    story.take({ ...event, at: Date.parse(event.time), step: event.step ?? null, attempt: event.attempt ?? null });
  return story.turns.filter((turn) => turn.id !== ask.id);
}

/** True where list and detail stand side by side. */
const wide = () => matchMedia("(min-width: 900px)").matches;
