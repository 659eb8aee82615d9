/** Two runs, aligned step by step: what differs, and nothing else. */

import { get } from "../api.js";
import { html, names, useState } from "../dom.js";
import { useLive } from "../live.js";
import { go, link, route } from "../router.js";
import { same } from "../schema.js";
import { count, short, shortId, span } from "../text.js";
import { Icon } from "../parts/icon.js";
import { Json, Value } from "../parts/json.js";
import { Loaded, Page } from "../parts/page.js";
import { StatusPill, StepStatus } from "../parts/status.js";
import { Ago } from "../parts/time.js";

export function CompareScreen() {
  const { query } = route.value;
  const left = query.get("left") ?? "";
  const right = query.get("right") ?? "";
  return html`<${Page} title="Compare" lead="Two runs side by side: only what differs is marked.">
    <${Choice} key=${`${left} ${right}`} left=${left} right=${right} />
    ${left && right && html`<${Diff} key=${`${left}|${right}`} left=${left} right=${right} />`}<//>`;
}

function Choice({ left, right }) {
  const [ids, setIds] = useState({ left, right });
  const submit = (event) => {
    event.preventDefault();
    go(link("compare", ids));
  };
  const input = (side, label) => html`<label class="field"><span class="label">${label}</span>
    <input class="input mono" placeholder="run_…" required value=${ids[side]}
      onInput=${(event) => setIds({ ...ids, [side]: event.target.value.trim() })} /></label>`;
  return html`<form class="compare-choice" onSubmit=${submit}>${input("left", "Left")}
    <button type="button" class="button quiet" aria-label="Swap" title="Swap"
      onClick=${() => setIds({ left: ids.right, right: ids.left })}><${Icon} name="swap" /></button>
    ${input("right", "Right")}<button class="button">Compare</button></form>`;
}

function Diff({ left, right }) {
  const diff = useLive((signal) => get("v1/diff", { left, right }, signal), [], {
    concerns: ({ runs }) => runs.includes(left) || runs.includes(right),
  });
  return html`<${Loaded} of=${diff} view=${(data) => html`
    <div class="compare-heads"><${Head} run=${data.left} /><${Head} run=${data.right} /></div>
    <${Pair} title="Input" left=${data.left.input} right=${data.right.input} />
    <div class="compare-steps">${groupsOf(data.steps).map((group) =>
      group.alike
        ? html`<${Alike} key=${`alike ${group.steps[0].left.step}`} steps=${group.steps} />`
        : html`<${Step} key=${`${group.step.left?.step}|${group.step.right?.step}`} ...${group.step} />`,
    )}</div>
    <${Pair} title=${data.left.error || data.right.error ? "End" : "Result"} left=${data.left.error ?? data.left.result}
      right=${data.right.error ?? data.right.result} open />`} />`;
}

function Head({ run }) {
  return html`<div class="compare-head"><p><a href=${link(["runs", run.id])}>
    <strong>${run.agent}</strong>${run.session ? ` / ${run.session}` : ""}</a> <${StatusPill} status=${run.status} /></p>
    <p class="meta"><span class="mono">${shortId(run.id)}</span><span>version ${run.version}</span><span>
      <${Ago} time=${run.created} /></span><span>${count(run.steps, "step")}</span>
      ${run.forked_from && html`<span>fork of ${shortId(run.forked_from.run)}</span>`}</p></div>`;
}

function Pair({ title, left, right, open = false }) {
  const alike = same(left, right);
  if (alike && !open) return null;
  return html`<section class="compare-pair"><h2>${title}${alike && html`<span class="tag">same</span>`}</h2>
    <div class=${names("compare-row", { differs: !alike })}>${[left, right].map(
      (value) => html`<div class="compare-cell">
      ${value === null || value === undefined ? html`<span class="muted">none yet</span>` : html`<${Value}
        value=${value} />`}</div>`,
    )}</div></section>`;
}

function Alike({ steps }) {
  const [open, setOpen] = useState(false);
  return html`<div class="compare-alike">
    <button type="button" class="json-toggle" aria-expanded=${open} onClick=${() => setOpen(!open)}>
      <span class="caret" />${count(steps.length, "same step")}</button>
    ${
      open &&
      html`<ol>${steps.map(
        ({ left }) => html`<li key=${left.step}><span class="step-number">${left.step}</span>
      <strong>${left.name}</strong> <span class="muted">${short(left.args, 60)}</span> <span class="compare-result">
      ${short(left.result, 60)}</span></li>`,
      )}</ol>`
    }
  </div>`;
}

function Step({ left, right, differs }) {
  return html`<article class="compare-row differs"><${Cell} step=${left} other=${right} differs=${differs} />
    <${Cell} step=${right} other=${left} differs=${differs} /></article>`;
}

function Cell({ step, other, differs }) {
  if (!step) return html`<div class="compare-cell missing"><span class="muted">no such step</span></div>`;
  const fields = other ? differs : ["args", "result"];
  return html`<div class="compare-cell">
    <header><span class="step-number">${step.step}</span>
      <strong class=${names({ mark: other && differs.includes("name") })}>${step.name}</strong>
      <${StepStatus} status=${step.status} />${
        step.seconds !== null &&
        html`<span class="muted">
      ${span(step.seconds * 1000)}</span>`
      }</header>
    <dl class="facts">${fields
      .filter((field) => !["status", "name", "seconds"].includes(field))
      .map(
        (field) => html`<dt>
      ${field}</dt><dd class=${names({ mark: other })}><${Shown} value=${step[field]} /></dd>`,
      )}</dl></div>`;
}

function Shown({ value }) {
  if (value === null || value === undefined) return html`<span class="muted">none</span>`;
  return typeof value === "object" && JSON.stringify(value).length > 80
    ? html`<${Json} value=${value} />`
    : html`<${Value} value=${value} />`;
}

/** Runs of alike steps are one group; each step that differs is its own. */
function groupsOf(steps) {
  const groups = [];
  for (const step of steps) {
    const alike = step.left && step.right && step.differs.length === 0;
    if (alike && groups.at(-1)?.alike) groups.at(-1).steps.push(step);
    else groups.push(alike ? { alike, steps: [step] } : { alike, step });
  }
  return groups;
}
