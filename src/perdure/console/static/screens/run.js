/** One run: how it stands and why, what can be done, and its journal in six views. */

import { at, get } from "../api.js";
import { html, useEffect, useState } from "../dom.js";
import { Feed } from "../journal/feed.js";
import { useKeys } from "../keys.js";
import { useLive } from "../live.js";
import { go, link, route } from "../router.js";
import { actionsFor, openFork, ResolveCard } from "../parts/actions.js";
import { AskCard } from "../parts/ask.js";
import { StepDrawer } from "../parts/drawer.js";
import { Loading, Tabs, Trouble, useTitle } from "../parts/page.js";
import { StoryView } from "../parts/story.js";
import { Waterfall } from "../parts/waterfall.js";
import { CodeTab } from "../run/code.js";
import { EventsTab } from "../run/events.js";
import { RunHead } from "../run/head.js";
import { LogsTab } from "../run/logs.js";
import { StateTab } from "../run/state.js";

const TABS = ["story", "timeline", "events", "state", "logs", "code"];

/** @param {{id: string, tab: string}} props */
export function RunScreen({ id, tab }) {
  const feed = useFeed(id);
  const detail = useLive((signal) => get(at("runs", id), {}, signal), [], {
    concerns: ({ runs }) => !runs.length || runs.includes(id),
  });
  const turning = lastTurn(feed);
  useEffect(() => {
    if (turning) detail.reload();
  }, [turning]);
  useTitle(detail.data ? `${detail.data.agent} ${detail.data.status}` : "Run");
  if (!detail.data)
    return detail.problem
      ? html`<div class="page">
    <${Trouble} problem=${detail.problem} retry=${detail.reload} /></div>`
      : html`<${Loading} />`;
  return html`<${RunView} run=${detail.data} feed=${feed} tab=${TABS.includes(tab) ? tab : "story"}
    reload=${detail.reload} />`;
}

function RunView({ run, feed, tab, reload }) {
  const [chosen, choose] = useState(null);
  const version = feed.version.value;
  const steps = feed.steps.list;
  const toTab = (index) => () => go(link(["runs", run.id, TABS[index]]));
  const toggle = actionsFor(run, steps).find(({ id }) => id === "pause" || id === "resume");
  useKeys({
    f: () => openFork(run, chosen?.run === null ? chosen.step : (steps.at(-1)?.step ?? 1), steps),
    p: () => (toggle ? toggle.call() : false),
    ...Object.fromEntries(TABS.map((_, index) => [String(index + 1), toTab(index)])),
  });
  const drawn = chosen && chosenStep(chosen, feed);
  const showStep = (step) => choose({ run: null, step });
  return html`<div class="page run">
    <${RunHead} run=${run} feed=${feed} version=${version} steps=${steps} />
    <${People} run=${run} feed=${feed} version=${version} reload=${reload} />
    <${Tabs} current=${tab} tabs=${tabsOf(run, feed)} />
    ${feed.problem.value && html`<${Trouble} problem=${feed.problem.value} />`}
    <div class="run-body">
      <div class="run-view" data-tab=${tab}>
        <${View} tab=${tab} run=${run} feed=${feed} version=${version} chosen=${chosen} choose=${choose}
          showStep=${showStep} /></div>
      ${drawn && html`<${StepDrawer} run=${run} steps=${steps} step=${drawn} owner=${chosen.run}
        onClose=${() => choose(null)} />`}
    </div>
  </div>`;
}

function View({ tab, run, feed, version, chosen, choose, showStep }) {
  switch (tab) {
    case "timeline":
      return html`<${Waterfall} steps=${feed.steps.list} version=${version} live=${!feed.over}
        chosen=${chosen && `${chosen.run ?? ""}:${chosen.step}`}
      onChoose=${(row) => choose({ run: row.run, step: row.step.step, given: row.step })} />`;
    case "events":
      return html`<${EventsTab} run=${run} feed=${feed} version=${version} />`;
    case "state":
      return html`<${StateTab} feed=${feed} version=${version} session=${run.session} />`;
    case "logs":
      return html`<${LogsTab} feed=${feed} version=${version} onStep=${showStep} />`;
    case "code":
      return html`<${CodeTab} run=${run} feed=${feed} version=${version} onStep=${showStep}
        line=${Number(route.value.query.get("line")) || null} />`;
    default:
      return html`<${StoryView} turns=${feed.story.turns} version=${version} live=${!feed.over} onStep=${showStep} />`;
  }
}

/** What waits for a person: questions, approvals, steps of unknown outcome. */
function People({ run, feed, reload }) {
  const steps = feed.steps.list;
  const open = steps
    .filter(({ kind, status }) => status === "open" && (kind === "ask" || kind === "approval"))
    .map(({ refers }) => refers)
    .join();
  const waitsForChild = run.wait?.kind === "child";
  const wanted = open || waitsForChild;
  const asks = useLive(
    (signal) => (wanted ? get(at("runs", run.id, "asks"), {}, signal) : Promise.resolve({ items: [] })),
    [open, waitsForChild],
    { concerns: () => Boolean(waitsForChild) },
  );
  const unknown = steps.filter(({ status }) => status === "unknown" && !feed.over);
  const items = (asks.data?.items ?? []).filter((ask) => ask.run !== run.id || open.split(",").includes(ask.id));
  if (items.length === 0 && unknown.length === 0) return null;
  return html`<section class="people" aria-label="Waits for a person">
    ${items.map((ask, index) => html`<${AskCard} key=${ask.id} ask=${ask} compact=${ask.run === run.id} keys=${index === 0}
      onSettled=${reload} />`)}
    ${unknown.map((step) => html`<${ResolveCard} key=${step.step} run=${run} step=${step} />`)}
  </section>`;
}

function useFeed(id) {
  const [feed] = useState(() => new Feed(id));
  useEffect(() => {
    feed.open();
    return () => feed.close();
  }, []);
  return feed;
}

/** The last event that may have changed how the run stands; the rest is detail. */
function lastTurn(feed) {
  void feed.version.value;
  const found = feed.events.findLast(
    ({ type }) => !type.startsWith("stream.") && !type.startsWith("step.heartbeat") && type !== "progress",
  );
  return found?.seq ?? 0;
}

function chosenStep({ run, step, given }, feed) {
  return run === null ? feed.steps.byNumber.get(step) : given;
}

function tabsOf(run, feed) {
  const counts = {
    timeline: feed.steps.list.length,
    events: feed.events.length,
    state: feed.state.changes.length,
    logs: feed.logs.lines.filter(({ level }) => level !== "info").length,
  };
  return TABS.map((id) => ({
    id,
    label: id[0].toUpperCase() + id.slice(1),
    href: link(["runs", run.id, id]),
    count: counts[id],
  }));
}
