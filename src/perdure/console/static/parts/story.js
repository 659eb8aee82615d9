/** The story of a run as chat-like turns. Long ones begin at their end; earlier turns are one click away. */

import { html, names, steady, useLayoutEffect, useRef, useState } from "../dom.js";
import { link } from "../router.js";
import { brief, count, short, shortId, span } from "../text.js";
import { Icon } from "./icon.js";
import { Json, Value } from "./json.js";
import { Ago, Clock, Countdown, Elapsed } from "./time.js";

const SHOWN = 100;

/**
 * @param {object} props
 * @param {import("../journal/story.js").Turn[]} props.turns
 * @param {number} [props.version] grows when turns do: the list itself stays the same one, and equal props render nothing
 * @param {boolean} [props.live] the run goes on: its last words are read out
 * @param {(step: number) => void} [props.onStep] show the details of a step
 * @param {number} [props.last] only the last so many turns, without the rest
 */
export function StoryView({ turns, live = false, onStep, last }) {
  const [limit, setLimit] = useState(last ?? SHOWN);
  const end = useRef(null);
  const behind = useFollowing(end, live && !last, turns);
  const shown = turns.slice(-limit);
  const hidden = turns.length - shown.length;
  return html`<div class="story">
    ${hidden > 0 && !last && html`<button type="button" class="button small story-more"
      onClick=${() => setLimit(limit + SHOWN * 5)}>${count(hidden, "earlier turn")}</button>`}
    <ol class="turns">${shown.map((turn) => html`<${TurnView} key=${turn.key} rev=${turn.rev} turn=${turn}
      onStep=${onStep} />`)}</ol>
    <div ref=${end} />
    ${behind && html`<button type="button" class="button small story-latest"
      onClick=${() => end.current.scrollIntoView({ block: "end", behavior: "smooth" })}>Latest</button>`}
    <div class="visually-hidden" aria-live="polite">${live && turns.length > 0 ? spoken(turns.at(-1)) : ""}</div>
  </div>`;
}

/** Keeps the end in view while it was in view; true when there is more below. */
function useFollowing(end, live, turns) {
  const [behind, setBehind] = useState(false);
  const atEnd = useRef(false);
  const last = turns.at(-1);
  useLayoutEffect(() => {
    if (!live) return undefined;
    const observer = new IntersectionObserver(([entry]) => {
      atEnd.current = entry.isIntersecting;
      setBehind(!entry.isIntersecting);
    });
    observer.observe(end.current);
    return () => observer.disconnect();
  }, [live]);
  useLayoutEffect(() => {
    if (live && atEnd.current && scrollY > 0) end.current.scrollIntoView({ block: "end" });
  }, [live, turns.length, last?.rev]);
  return live && behind;
}

const TurnView = steady(({ turn, onStep }) => {
  const view = VIEWS[turn.kind];
  return html`<li class=${names("turn", `turn-${turn.kind}`, SIDES[turn.kind])}>${view({ turn, onStep })}</li>`;
});

const SIDES = { input: "theirs", message: "theirs" };

const VIEWS = {
  input: ({ turn }) => html`<${Bubble} turn=${turn} who="Input" value=${turn.input} />`,
  message: ({ turn }) =>
    html`<${Bubble} turn=${turn} who=${`${turn.sender ?? "Somebody"} · ${turn.topic}`} value=${turn.value} />`,
  sent: ({ turn }) => html`<${Line} turn=${turn} icon="send">Sent <strong>${turn.name}</strong> to <code>${turn.to}
    </code> <span class="muted">${short(turn.value, 120)}</span><//>`,
  tool: ({ turn, onStep }) => html`<${Tool} turn=${turn} rev=${turn.rev} onStep=${onStep} />`,
  child: ({ turn, onStep }) => html`<${Tool} turn=${turn} rev=${turn.rev} onStep=${onStep} icon="child" />`,
  sleep: ({ turn }) =>
    html`<${Line} turn=${turn} icon="clock">${
      turn.status === "open"
        ? html`Sleeps, <${Countdown} until=${turn.due} past="wakes up" />
      ${" left"}`
        : `Slept ${span((turn.ended ?? turn.at) - turn.at)}`
    }<//>`,
  receive: ({ turn }) =>
    turn.status === "open"
      ? html`<${Line} turn=${turn} icon="inbox">Waits for a message on <strong>
    ${turn.name}</strong><//>`
      : null,
  ask: ({ turn }) => html`<${Exchange} turn=${turn} rev=${turn.rev} icon="question" title=${turn.question ?? turn.name} />`,
  approval: ({ turn }) =>
    html`<${Exchange} turn=${turn} rev=${turn.rev} icon="shield" title=${html`May I do <code>
    ${turn.name}</code>?`} />`,
  report: ({ turn }) => html`<${Line} turn=${turn} icon=${turn.name === "artifact" ? "file" : "pulse"}>
    <strong>${turn.name.replace(/^custom\./, "")}</strong> <${Inline} value=${turn.value} />
      ${turn.count > 1 && html` <span class="muted">latest of ${turn.count}</span>`}<//>`,
  note: ({ turn }) => html`<p class=${`turn-note note-${turn.tone}`}>
    <span>${turn.text}</span>${
      turn.run &&
      html` <a href=${link(["runs", turn.run])}>${shortId(turn.run)}
    </a>`
    } <${Clock} time=${turn.at} /></p>`,
  result: ({ turn }) => html`<div class="ending good"><header><${Icon} name="check" /><strong>Result</strong>
    <${Clock} time=${turn.at} /></header><${Value} value=${turn.result} /></div>`,
  failure: ({ turn }) => html`<div class="ending bad"><header><${Icon} name="alert" />
    <strong>${turn.error.type ?? "Failed"}</strong><${Clock} time=${turn.at} /></header>
    <p class="prose">${turn.error.message}</p>${turn.error.at && html`<p class="meta mono">${turn.error.at}</p>`}</div>`,
};

function Bubble({ turn, who, value }) {
  return html`<div class="bubble"><header class="meta"><span>${who}</span><${Clock} time=${turn.at} /></header>
    <div class="bubble-body">
      ${value === null || isEmpty(value) ? html`<span class="muted">nothing</span>` : html`<${Value} value=${value} />`}
      </div></div>`;
}

function Line({ turn, icon, children }) {
  return html`<div class="line"><${Icon} name=${icon} size="s" /><div class="line-text">${children}</div>
    <${Clock} time=${turn.at} /></div>`;
}

function Tool({ turn, onStep, icon = "tool" }) {
  const [open, setOpen] = useState(false);
  const failure = turn.failures.at(-1);
  const streams = [...turn.streams.entries()].filter(([, stream]) => stream.text || stream.items.length);
  return html`<div class=${names("tool", { open })} data-step=${turn.step}>
    <button type="button" class="tool-head" aria-expanded=${open} onClick=${() => setOpen(!open)}>
      <${Mark} status=${turn.status} icon=${icon} />
      <strong class="tool-name">${turn.name}</strong>
      <span class="tool-args">${turn.args === null ? "" : brief(turn.args, 90)}${
        turn.status === "done" && turn.result !== null && turn.result !== undefined && !streams.length
          ? html`<span class="tool-result"> → ${brief(turn.result, 90)}</span>`
          : null
      }</span>
      ${turn.attempts > 1 && html`<span class="tag">attempt ${turn.attempts}</span>`}
      <span class="tool-took">${turn.ended ? span(turn.ended - turn.at) : html`<${Elapsed} since=${turn.at} />`}</span>
    </button>
    ${streams.map(([name, stream]) => html`<${Stream} key=${name} stream=${stream} name=${name} />`)}
    ${
      failure &&
      turn.status !== "done" &&
      html`<p class=${`tool-failure ${turn.status === "failed" ? "bad" : "warn"}`}>
      <strong>${failure.type}</strong> ${failure.message}
      ${turn.status === "retrying" && html`<span class="muted"> · again in <${Countdown} until=${turn.due}
        past="a moment" /></span>`}</p>`
    }
    ${turn.status === "unknown" && html`<p class="tool-failure bad">Nobody knows whether this happened: ${turn.why}</p>`}
    ${
      open &&
      html`<div class="tool-body">
      ${
        turn.kind === "child" &&
        turn.run &&
        html`<p>
        <a href=${link(["runs", turn.run])}>Open the child run ${shortId(turn.run)}</a></p>`
      }
      <${Part} title=${turn.kind === "child" ? "Input" : "Arguments"} value=${turn.args} />
      ${turn.result !== undefined && html`<${Part} title="Result" value=${turn.result} />`}
      ${
        turn.failures.length > 0 &&
        html`<section><h4>Failed attempts</h4>
        ${turn.failures.map(
          (one) => html`<p class="muted">${one.attempt ? `${one.attempt}. ` : ""}<strong>${one.type}
        </strong> ${one.message} <${Clock} time=${one.at} /></p>`,
        )}</section>`
      }
      ${onStep && html`<p><button type="button" class="button small"
        onClick=${() => onStep(turn.step)}>Step ${turn.step} in detail</button></p>`}
    </div>`
    }
  </div>`;
}

function Mark({ status, icon }) {
  if (status === "open") return html`<span class="spinner" role="img" aria-label="under way" />`;
  if (status === "done")
    return html`<span class="mark tone-green" role="img" aria-label="done">
    <${Icon} name=${icon} size="s" /></span>`;
  return html`<span class=${`mark tone-${status === "failed" ? "red" : status === "withdrawn" ? "plain" : "amber"}`}
    role="img" aria-label=${status}><${Icon} name=${icon} size="s" /></span>`;
}

function Stream({ stream, name }) {
  const box = useRef(null);
  useLayoutEffect(() => {
    if (stream.live) box.current.scrollTop = box.current.scrollHeight;
  }, [stream.text, stream.items.length]);
  return html`<div class=${names("stream", { live: stream.live })} ref=${box} data-stream=${name} tabindex="0" role="group"
    aria-label=${`Stream ${name}`}>
    ${stream.text}${stream.items.slice(-200).map((item) => html`<div class="mono">${short(item, 400)}</div>`)}</div>`;
}

function Exchange({ turn, icon, title }) {
  const { status } = turn;
  const said = turn.kind === "ask" ? turn.value : turn.granted;
  return html`<div class="exchange">
    <div class="exchange-ask"><${Icon} name=${icon} /><div><p class="exchange-title">${title}</p>
      ${turn.kind === "approval" && html`<${Value} value=${turn.args ?? {}} />`}
      <p class="meta">${turn.to && html`<span>for ${turn.to}</span>`}<${Ago} time=${turn.at} />
        ${
          status === "open" &&
          turn.deadline &&
          html`<span>time left <${Countdown} until=${turn.deadline} past="over" />
        </span>`
        }</p></div></div>
    ${
      status === "open"
        ? html`<p class="exchange-open">waits for ${turn.to ?? "somebody"}</p>`
        : html`<div class=${`exchange-reply reply-${status}`}><header class="meta">
        <strong>${DECISIONS[turn.kind]?.[status] ?? status}</strong>${
          turn.by &&
          html`<span>${turn.by}
        </span>`
        }${turn.ended && html`<${Clock} time=${turn.ended} />`}</header>
        ${turn.note && html`<p>“${turn.note}”</p>`}
        ${said !== undefined && said !== null && (turn.kind === "ask" || JSON.stringify(said) !== JSON.stringify(turn.args)) && html`<${Value} value=${said} />`}</div>`
    }
  </div>`;
}

const DECISIONS = {
  ask: { done: "Answered", expired: "Nobody answered in time", withdrawn: "No longer asked" },
  approval: { done: "Approved", rejected: "Rejected", expired: "Nobody decided in time", withdrawn: "No longer asked" },
};

const Part = ({ title, value }) => html`<section><h4>${title}</h4>
  ${value === null || value === undefined ? html`<p class="muted">none</p>` : typeof value === "object" ? html`<${Json}
    value=${value} />` : html`<p><${Value} value=${value} /></p>`}</section>`;

function Inline({ value }) {
  if (value === null || typeof value !== "object") return html`<span>${short(value, 200)}</span>`;
  return html`<span class="inline-fields">${Object.entries(value)
    .slice(0, 8)
    .map(
      ([name, item]) => html`<span key=${name}>
    <span class="muted">${name}</span> ${short(item, 80)}</span>`,
    )}</span>`;
}

const isEmpty = (value) => typeof value === "object" && Object.keys(value ?? {}).length === 0;

function spoken(turn) {
  if (turn.kind === "note") return turn.text;
  if (turn.kind === "result") return "The run succeeded";
  if (turn.kind === "failure") return `The run failed: ${turn.error.message ?? ""}`;
  return turn.name ? `${turn.name} ${turn.status ?? ""}` : "";
}
