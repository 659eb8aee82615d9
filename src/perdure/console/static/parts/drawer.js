/** The details of one step, beside the run. */

import { html, useEffect, useRef } from "../dom.js";
import { useKeys } from "../keys.js";
import { link } from "../router.js";
import { may } from "../store.js";
import { shortId, span } from "../text.js";
import { openFork, retry } from "./actions.js";
import { Icon } from "./icon.js";
import { Json, Value } from "./json.js";
import { ENDED, StepStatus } from "./status.js";
import { Clock, Countdown } from "./time.js";

/**
 * @param {object} props
 * @param {object} props.run
 * @param {object[]} props.steps all of the run, for the fork dialog
 * @param {import("../journal/steps.js").Step} props.step
 * @param {string | null} props.owner the child run it belongs to, if any
 * @param {() => void} props.onClose
 */
export function StepDrawer({ run, steps, step, owner, onClose }) {
  const close = useRef(null);
  useKeys({ Escape: onClose, f: () => (owner ? false : openFork(run, step.step, steps)) });
  useEffect(() => close.current.focus({ preventScroll: true }), [step.step, owner]);
  return html`<aside class="drawer" aria-label=${`Step ${step.step}`}>
    <header class="drawer-head">
      <div><p class="meta"><span>Step ${step.step}</span><span>${step.kind}</span>
        ${step.effect && html`<span>effect ${step.effect}</span>`}</p><h2>${step.name}</h2></div>
      <button type="button" class="button quiet small" ref=${close} onClick=${onClose} aria-label="Close">
        <${Icon} name="close" /></button>
    </header>
    <div class="drawer-body stack">
      <p class="meta"><${StepStatus} status=${step.status} />${
        step.attempts > 1 &&
        html`<span>
        ${step.attempts} attempts</span>`
      }
        ${
          step.ended !== null &&
          html`<span>took ${span(step.ended - step.started)}
          </span>`
        }${step.due && html`<span>by itself in <${Countdown} until=${step.due} /></span>`}</p>
      ${
        !owner &&
        may("operator") &&
        html`<div class="actions">
        <button type="button" class="button small" onClick=${() => openFork(run, step.step, steps)}>
          <${Icon} name="fork" />Fork from here</button>
        ${
          ENDED.has(run.status) &&
          html`<button type="button" class="button small" onClick=${() => retry(run, step.step)}>
          <${Icon} name="retry" />Retry from here</button>`
        }
      </div>`
      }
      ${
        step.error &&
        html`<section class="tool-failure bad">
        <strong>${step.error.type}</strong> ${step.error.message}</section>`
      }
      <${Part} title="Arguments" value=${step.args} />
      <${Part} title="Result" value=${step.result} />
      <dl class="facts">
        <dt>Started</dt><dd><${Clock} time=${step.started} /></dd>
        ${step.ended !== null && html`<dt>Ended</dt><dd><${Clock} time=${step.ended} /></dd>`}
        ${
          step.at &&
          html`<dt>Code</dt><dd>${
            owner
              ? html`<code>${step.at}
          </code>`
              : html`<a href=${link(["runs", run.id, "code"], { line: step.at.split(":").at(-1) })}>
          <code>${step.at}</code></a>`
          }</dd>`
        }
        ${
          step.refers &&
          step.kind === "child" &&
          html`<dt>Child run</dt><dd>
          <a class="mono" href=${link(["runs", step.refers])}>${shortId(step.refers)}</a></dd>`
        }
        ${owner && html`<dt>In run</dt><dd><a class="mono" href=${link(["runs", owner])}>${shortId(owner)}</a></dd>`}
      </dl>
    </div>
  </aside>`;
}

function Part({ title, value }) {
  if (value === null || value === undefined) return null;
  return html`<section><h3>${title}</h3>
    ${
      typeof value === "object"
        ? html`<${Json} value=${value} />`
        : html`<p class="boxed"><${Value} value=${value} />
    </p>`
    }</section>`;
}
