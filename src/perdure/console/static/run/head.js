/** Who is this run, how does it stand and why, and what can be done to it? */

import { html } from "../dom.js";
import { link } from "../router.js";
import { count, shortId, span } from "../text.js";
import { RunActions } from "../parts/actions.js";
import { Copy } from "../parts/copy.js";
import { Icon } from "../parts/icon.js";
import { ENDED, StatusPill } from "../parts/status.js";
import { Ago, Countdown } from "../parts/time.js";

/** @param {{run: object, feed: import("../journal/feed.js").Feed, version: number, steps: object[]}} props */
export function RunHead({ run, feed, version, steps }) {
  return html`<header class="run-head">
    <div class="run-title">
      <p class="crumbs"><a href=${link("runs")}>Runs</a><span>/</span>
        <a href=${link("runs", { agent: run.agent })}>${run.agent}</a></p>
      <div class="run-name"><h1>${run.agent}${
        run.session &&
        html`<span class="muted"> / </span>
        <a href=${link(["sessions", run.agent, run.session])}>${run.session}</a>`
      }</h1>
        <${StatusPill} status=${run.status} size="l" /><${Connection} feed=${feed} /></div>
      <${Why} run=${run} />
      <${Facts} run=${run} />
    </div>
    <${RunActions} run=${run} steps=${steps} />
    <${Recovered} run=${run} feed=${feed} version=${version} />
  </header>`;
}

function Why({ run }) {
  const due = run.wake_at ?? run.wait?.due;
  if (run.error)
    return html`<p class="why bad"><strong>${run.error.type}
    </strong> ${run.error.message}${run.error.at && html` <code>${run.error.at}</code>`}</p>`;
  if (!run.reason && !due) return null;
  return html`<p class="why">${run.reason}${
    due &&
    html` <span class="wake">
    <${Icon} name="clock" size="s" />next wake-up in <${Countdown} until=${due} past="a moment" /></span>`
  }</p>`;
}

function Facts({ run }) {
  return html`<p class="meta">
    <span class="mono" title=${run.id}>${shortId(run.id)}<${Copy} text=${run.id} label="Copy id" /></span>
    <span>version ${run.version}</span><span>started <${Ago} time=${run.created} /></span>
    ${ENDED.has(run.status) && html`<span>took ${span(Date.parse(run.updated) - Date.parse(run.created))}</span>`}
    ${run.attempt > 1 && html`<span>attempt ${run.attempt}</span>`}
    ${
      run.parent &&
      html`<span>child of <a class="mono" href=${link(["runs", run.parent])}>${shortId(run.parent)}</a>
      </span>`
    }
    ${
      run.forked_from &&
      html`<span>fork of <a class="mono" href=${link(["runs", run.forked_from.run])}>
      ${shortId(run.forked_from.run)}
      </a> · <a href=${link("compare", { left: run.forked_from.run, right: run.id })}>compare</a></span>`
    }
    ${
      run.continued_as &&
      html`<span>goes on as <a class="mono" href=${link(["runs", run.continued_as])}>
      ${shortId(run.continued_as)}</a></span>`
    }
  </p>`;
}

function Recovered({ run, feed }) {
  const last = feed.recoveries.at(-1);
  const replayed = run.recovered?.replayed_steps ?? last?.replayed;
  if (replayed === undefined) return null;
  return html`<p class="banner good" role="status"><${Icon} name="shield" /><span>${
    replayed > 0
      ? html`<strong>Recovered: ${count(replayed, "step")} replayed</strong>, none of them done twice.`
      : html`<strong>Recovered</strong> after a crash, before any step had ended.`
  }</span></p>`;
}

function Connection({ feed }) {
  if (feed.connection.value !== "lost") return null;
  return html`<span class="reconnecting" role="status"><span class="spinner" />reconnecting…</span>`;
}
