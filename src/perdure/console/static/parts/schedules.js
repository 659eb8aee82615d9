/** Schedules: when runs start by themselves. */

import { at, get, post } from "../api.js";
import { html, names } from "../dom.js";
import { useLive } from "../live.js";
import { link } from "../router.js";
import { attempt, may } from "../store.js";
import { short, shortId } from "../text.js";
import { Icon } from "./icon.js";
import { Empty, Loaded } from "./page.js";
import { Ago, Countdown } from "./time.js";

/** @param {{agent?: string}} props only those of an agent */
export function ScheduleList({ agent }) {
  const schedules = useLive((signal) => get("v1/schedules", {}, signal), []);
  return html`<${Loaded} of=${schedules} view=${({ items }) => {
    const shown = items.filter((schedule) => !agent || schedule.agent === agent);
    if (shown.length === 0)
      return html`<${Empty} icon="clock"
        title="No schedules">Runs can start by the clock: <code>perdure schedule --help</code><//>`;
    return html`<ul class="card rows">
      ${shown.map((schedule) => html`<${Schedule} key=${schedule.name} schedule=${schedule} reload=${schedules.reload} />`)}
      </ul>`;
  }} />`;
}

function Schedule({ schedule, reload }) {
  const { name, agent, cron, timezone, input, session, paused, next, last } = schedule;
  const call = (verb, done) => async () => {
    await attempt(() => post(at("schedules", name, verb)), done);
    reload();
  };
  return html`<li class=${names("row", { faded: paused })}>
    <div class="row-main stacked"><p><strong>${name}</strong> <code>${cron}</code> <span class="muted">${timezone}</span>
      </p>
      <p class="meta"><a href=${link(["agents", agent])}>${agent}</a>${
        session &&
        html`<span>session ${session}
        </span>`
      }${input !== null && html`<span class="mono">${short(input, 60)}</span>`}
        <span>${paused ? "paused" : next ? html`next in <${Countdown} until=${next} />` : "no next time"}</span>
        ${
          last &&
          html`<span>last <${Ago} time=${last.slot} />
          ${last.run && html` as <a class="mono" href=${link(["runs", last.run])}>${shortId(last.run)}</a>`}</span>`
        }</p>
          </div>
    ${
      may("operator") &&
      html`<div class="actions">
      <button type="button" class="button small" onClick=${call("trigger", "Started")}>
        <${Icon} name="play" size="s" />Run now</button>
      <button type="button" class="button small" onClick=${paused ? call("resume", "Resumed") : call("pause", "Paused")}>
        ${paused ? "Resume" : "Pause"}</button></div>`
    }
  </li>`;
}
