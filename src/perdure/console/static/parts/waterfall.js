/** Steps as bars over time: attempts, waits hatched, children inline. Only the visible rows exist. */

import { at, get } from "../api.js";
import { html, names, useEffect, useMemo, useState } from "../dom.js";
import { stepOf } from "../journal/steps.js";
import { attempt, changes, now } from "../store.js";
import { short, span } from "../text.js";
import { Icon } from "./icon.js";
import { Empty } from "./page.js";
import { scaleOf } from "./scale.js";
import { stepTone } from "./status.js";
import { Virtual } from "./virtual.js";

const ROW_HEIGHT = 34;
/** Of more rows than these the whole would show only specks. */
const ZOOM_FROM_ROWS = 60;
const TICKS = [0, 0.25, 0.5, 0.75, 1];

/**
 * @param {object} props
 * @param {import("../journal/steps.js").Step[]} props.steps
 * @param {number} props.version grows when steps change
 * @param {boolean} props.live bars that are open grow
 * @param {string | null} props.chosen key of the row whose details are shown
 * @param {(row: {run: string | null, step: object}) => void} props.onChoose
 */
export function Waterfall({ steps, version, live, chosen, onChoose }) {
  const [fold, setFold] = useState(true);
  const [zoom, setZoom] = useState(null);
  const [seen, setSeen] = useState([0, 30]);
  const [only, setOnly] = useState("all");
  const children = useChildren();
  const end = live ? now.value : null;
  const rows = useMemo(() => rowsOf(steps.filter(FILTERS[only]), children.open), [version, only, children.open]);
  const zoomed = zoom ?? rows.length > ZOOM_FROM_ROWS;
  const [first, last] = zoomed ? seen : [0, rows.length];
  const scale = useMemo(
    () => scaleOf(momentsOf(rows.slice(first, last), zoomed ? null : end), fold),
    [rows, fold, end, first, last],
  );
  const look = (from, to) => setSeen((known) => (known[0] === from && known[1] === to ? known : [from, to]));
  if (steps.length === 0)
    return html`<${Empty} icon="clock" title="No steps yet">Bars appear here as soon as the agent does something.<//>`;
  const start = steps[0].started;
  return html`<div class="waterfall">
    <div class="toolbar">
      <div class="segmented" role="group" aria-label="Which steps">
        ${Object.keys(FILTERS).map((id) => html`<button type="button" key=${id} aria-pressed=${only === id}
          onClick=${() => setOnly(id)}>${id}</button>`)}
      </div>
      <label class="check"><input type="checkbox" checked=${fold} onChange=${() => setFold(!fold)} />
        <span>Fold long waits</span></label>
      <label class="check"><input type="checkbox" checked=${zoomed} onChange=${() => setZoom(!zoomed)} />
        <span>Zoom to the rows in view</span></label>
      ${scale.folded && html`<span class="hint">The axis is shortened where nothing happened.</span>`}
    </div>
    <${Virtual} label="Steps over time" rows=${rows} rowHeight=${ROW_HEIGHT} onWindow=${look} head=${html`<${Axis}
      scale=${scale} start=${start} />`} keyOf=${(row) => row.key} view=${(
      row,
    ) => html`<${Row} row=${row} scale=${scale} end=${end}
      chosen=${chosen === row.key} open=${children.open.has(row.step.refers)} onToggle=${() => children.toggle(row.step.refers)} onChoose=${onChoose} />`} />
  </div>`;
}

function Axis({ scale, start }) {
  return html`<div class="waterfall-axis" aria-hidden="true"><span />
    <div class="waterfall-ticks">${TICKS.map(
      (place) => html`<span style=${{ left: `${place * 100}%` }}>
      ${elapsed(scale.time(place) - start)}</span>`,
    )}</div><span /></div>`;
}

const elapsed = (ms) => (ms < 1 ? "0" : span(ms));

const FILTERS = {
  all: () => true,
  slow: (step) => (step.ended ?? Date.now()) - step.started > 1_000,
  failed: (step) =>
    step.status === "failed" || step.status === "unknown" || step.status === "retrying" || step.attempts > 1,
};

function Row({ row, scale, end, chosen, open, onToggle, onChoose }) {
  const { step, depth } = row;
  const took = step.ended === null ? (end ?? step.started) - step.started : step.ended - step.started;
  const isChild = step.kind === "child" && step.refers;
  return html`<div class=${names("waterfall-row", { chosen })}>
    <div class="waterfall-name" style=${{ paddingInlineStart: `${depth * 18}px` }}>
      ${
        isChild
          ? html`<button type="button" class="json-toggle" aria-expanded=${open} aria-label=${`Steps of ${step.name}`}
            onClick=${onToggle}><span class="caret" /></button>`
          : html`<${Icon} name=${KIND_ICONS[step.kind] ?? "tool"} size="s" />`
      }
      <button type="button" class="waterfall-open" onClick=${() => onChoose(row)} title=${short(step.args, 200)}>
        <span class="step-number">${step.step}</span>${step.name}</button>
    </div>
    <button type="button" class="waterfall-track" tabindex="-1" aria-hidden="true" onClick=${() => onChoose(row)}>
      ${step.stretches.map((stretch) => html`<${Bar} stretch=${stretch} step=${step} scale=${scale} end=${end} />`)}
    </button>
    <span class="waterfall-took">${isInstant(step) ? "" : span(took)}</span>
  </div>`;
}

function Bar({ stretch, step, scale, end }) {
  const left = scale.place(stretch.from);
  const right = scale.place(stretch.to ?? end ?? stretch.from);
  const tone = stretch.failed ? "red" : stretch.kind === "wait" ? "wait" : stepTone(step.status);
  return html`<i class=${names("bar", `bar-${tone}`, { open: stretch.to === null && end !== null, wait: stretch.kind === "wait" })}
    style=${{ left: `${left * 100}%`, width: `max(3px, ${(right - left) * 100}%)` }} />`;
}

/** Which child runs are opened, with their steps. */
function useChildren() {
  const [open, setOpen] = useState(new Map());
  const load = async (run) => {
    const list = await attempt(() => get(at("runs", run, "steps"), { limit: 1000 }));
    if (list) setOpen((known) => new Map(known).set(run, list.items.map(stepOf)));
  };
  useEffect(() => {
    for (const run of changes.value.runs) if (open.has(run)) load(run);
  }, [changes.value]);
  const toggle = (run) => {
    if (!open.has(run)) return load(run);
    const rest = new Map(open);
    rest.delete(run);
    return setOpen(rest);
  };
  return { open, toggle };
}

function rowsOf(steps, open, run = null, depth = 0) {
  return steps.flatMap((step) => {
    const row = { key: `${run ?? ""}:${step.step}`, run, step, depth };
    const inner = step.kind === "child" && open.get(step.refers);
    return inner ? [row, ...rowsOf(inner, open, step.refers, depth + 1)] : [row];
  });
}

function momentsOf(rows, end) {
  const moments = end === null ? [] : [end];
  for (const { step } of rows) for (const { from, to } of step.stretches) moments.push(from, to ?? from);
  return moments;
}

const isInstant = (step) => step.kind === "emit" || step.kind === "send";
const KIND_ICONS = {
  tool: "tool",
  sleep: "clock",
  ask: "question",
  approval: "shield",
  receive: "inbox",
  send: "send",
  child: "child",
  emit: "pulse",
};
