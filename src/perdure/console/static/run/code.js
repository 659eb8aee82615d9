/** The agent's code, with the steps that its lines made in this run. */

import { at, get } from "../api.js";
import { html, useMemo } from "../dom.js";
import { useLive } from "../live.js";
import { Loaded } from "../parts/page.js";
import { Source } from "../parts/source.js";

/** @param {{run: object, feed: import("../journal/feed.js").Feed, version: number, line: number | null, onStep: (step: number) => void}} props */
export function CodeTab({ run, feed, version, line, onStep }) {
  const source = useLive((signal) => get(at("agents", run.agent, "source"), {}, signal), [run.agent], {
    concerns: () => false,
  });
  return html`<${Loaded} of=${source} view=${(found) => html`<${Marked} source=${found} feed=${feed} version=${version}
    line=${line} onStep=${onStep} />`} />`;
}

function Marked({ source, feed, version, line, onStep }) {
  const steps = useMemo(() => byLine(feed.steps.list, source.file), [version, source]);
  return html`<${Source} source=${source} steps=${steps} line=${line} onStep=${onStep} />`;
}

function byLine(steps, file) {
  const found = new Map();
  for (const step of steps) {
    const [, where, line] = /^(.*):(\d+)$/.exec(step.at ?? "") ?? [];
    if (!where || !(file.endsWith(where) || where.endsWith(file))) continue;
    if (!found.has(Number(line))) found.set(Number(line), []);
    found.get(Number(line)).push(step);
  }
  return found;
}
