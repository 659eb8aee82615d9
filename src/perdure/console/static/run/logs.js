/** Progress, warnings, heartbeats and failed attempts, by step and attempt. */

import { html, names, useMemo, useState } from "../dom.js";
import { short } from "../text.js";
import { Copy } from "../parts/copy.js";
import { Json } from "../parts/json.js";
import { Empty } from "../parts/page.js";
import { Clock } from "../parts/time.js";

const SHOWN = 500;

/** @param {{feed: import("../journal/feed.js").Feed, version: number, onStep: (step: number) => void}} props */
export function LogsTab({ feed, version, onStep }) {
  const [troubles, setTroubles] = useState(false);
  const [step, setStep] = useState(null);
  const [limit, setLimit] = useState(SHOWN);
  const lines = useMemo(
    () => feed.logs.lines.filter((line) => (!troubles || line.level !== "info") && (step === null || line.step === step)),
    [version, troubles, step],
  );
  if (feed.logs.lines.length === 0)
    return html`<${Empty} icon="pulse"
      title="Nothing was logged">Progress, warnings, heartbeats and failed attempts appear here.<//>`;
  return html`<div class="logs">
    <div class="toolbar">
      <div class="segmented" role="group" aria-label="Which lines">
        <button type="button" aria-pressed=${!troubles} onClick=${() => setTroubles(false)}>All</button>
        <button type="button" aria-pressed=${troubles} onClick=${() => setTroubles(true)}>Warnings and errors</button></div>
      ${step !== null && html`<button type="button" class="chip on"
        onClick=${() => setStep(null)}>only step ${step} ✕</button>`}
      <span class="toolbar-end"><${Copy} bare=${false} text=${() => lines.map(asText).join("\n")} label="Copy" /></span>
    </div>
    ${
      lines.length > limit &&
      html`<button type="button" class="button small" onClick=${() => setLimit(limit * 10)}>
      ${(lines.length - limit).toLocaleString("en")} earlier lines</button>`
    }
    <ol class="log-lines">${lines.slice(-limit).map((line) => html`<${Line} key=${line.seq} line=${line} onStep=${onStep}
      onOnly=${setStep} />`)}</ol>
  </div>`;
}

function Line({ line, onStep, onOnly }) {
  const [open, setOpen] = useState(false);
  return html`<li class=${names("log-line", `log-${line.level}`)}>
    <${Clock} time=${line.at} />
    <span class="log-step">${line.step !== null && html`<button type="button" class="button quiet small"
      title="Only this step" onClick=${() => onOnly(line.step)}>${line.step}${line.attempt ? `.${line.attempt}` : ""}
      </button>`}</span>
    <span class="log-text">${line.name && line.name !== line.text && html`<button type="button" class="link"
      onClick=${() => onStep(line.step)}>${line.name}</button>`} ${line.text}
      ${
        line.data !== null &&
        !open &&
        html`<button type="button" class="log-data" onClick=${() => setOpen(true)}>
        ${short(line.data, 160)}</button>`
      }
      ${open && html`<${Json} value=${line.data} />`}</span>
  </li>`;
}

const asText = (line) =>
  `${new Date(line.at).toISOString()} ${line.step ?? "-"} ${line.level} ${line.name ?? ""} ${line.text} ${line.data ? JSON.stringify(line.data) : ""}`;
