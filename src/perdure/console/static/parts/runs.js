/** Runs as rows: what they are, how they stand and why. */

import { html, names } from "../dom.js";
import { go, link } from "../router.js";
import { count, shortId } from "../text.js";
import { StatusPill } from "./status.js";
import { Ago } from "./time.js";

/**
 * @param {object} props
 * @param {object[]} props.runs
 * @param {string | null} [props.cursor] id of the run under the cursor
 * @param {Set<string>} [props.selected] with this, rows can be chosen
 * @param {(id: string, range: boolean) => void} [props.onSelect]
 * @param {() => void} [props.onAll] choose all of them, or none
 * @param {(run: object) => any} [props.detail] a line more about a run
 * @param {boolean} [props.plain] without agent and session: where all have the same
 */
export function RunTable({ runs, cursor = null, selected, onSelect, onAll, detail, plain = false }) {
  return html`<table class="runs">
    <thead><tr>
      ${
        selected &&
        html`<th class="runs-check"><label class="hit">
        <input type="checkbox" aria-label="Choose all" checked=${runs.every((run) => selected.has(run.id))}
          onChange=${onAll} /></label></th>`
      }
      <th>Status</th>${!plain && html`<th>Agent</th>`}<th>Run</th><th class="number">Steps</th>
        <th class="number">Updated</th>
    </tr></thead>
    <tbody>
      ${runs.map(
        (run) => html`<${RunRow} key=${run.id} run=${run} cursor=${cursor === run.id} plain=${plain} detail=${detail}
        chosen=${selected?.has(run.id)} onSelect=${selected && onSelect} />`,
      )}
    </tbody>
  </table>`;
}

function RunRow({ run, cursor, chosen, onSelect, detail, plain }) {
  const address = link(["runs", run.id]);
  const open = (event) => {
    if (!event.target.closest("a, button, label, input") && !getSelection().toString()) go(address);
  };
  return html`<tr class=${names("runs-row", { chosen })} data-cursor=${cursor} data-run=${run.id} onClick=${open}>
    ${
      onSelect &&
      html`<td class="runs-check"><label class="hit">
      <input type="checkbox" checked=${chosen} aria-label=${`Choose ${run.id}`}
      onClick=${(event) => onSelect(run.id, event.shiftKey)} /></label></td>`
    }
    <td class="runs-status"><${StatusPill} status=${run.status} />${
      run.reason &&
      html`<span class="reason">${run.reason}
      </span>`
    }${detail?.(run)}</td>
    ${
      !plain &&
      html`<td class="runs-agent"><strong>${run.agent}</strong>
      ${run.session && html`<a class="session-link" href=${link(["sessions", run.agent, run.session])}>${run.session}</a>`}
      </td>`
    }
    <td class="runs-id"><a class="mono" href=${address} title=${run.id}>${shortId(run.id)}</a>
      ${
        run.attempt > 1 &&
        html`<span class="tag" title="A worker took it over after a crash">attempt ${run.attempt}
        </span>`
      }
      ${run.forked_from && html`<span class="tag">fork</span>`}</td>
    <td class="number runs-steps"><span class="visually-hidden">${count(run.steps, "step")}</span>
      <span aria-hidden="true">${run.steps.toLocaleString("en")}</span></td>
    <td class="number runs-updated"><${Ago} time=${run.updated} /></td>
  </tr>`;
}
