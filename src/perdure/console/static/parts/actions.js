/** What can be done to a run now, and doing it. */

import { at, post } from "../api.js";
import { html, useState } from "../dom.js";
import { go, link } from "../router.js";
import { attempt, may } from "../store.js";
import { confirm, openDialog } from "./dialog.js";
import { JsonInput, SchemaForm } from "./form.js";
import { Icon } from "./icon.js";
import { ENDED } from "./status.js";
import { firstValue, validate } from "../schema.js";

const isPaused = (run) => run.status === "paused" || run.wait?.kind === "pause";

/** The actions that make sense for a run, the most telling first: `{id, label, icon, call, danger}`. */
export function actionsFor(run, steps = []) {
  if (!may("operator")) return [];
  const ended = ENDED.has(run.status);
  const actions = [];
  const add = (id, label, icon, call, danger = false) => actions.push({ id, label, icon, call, danger });
  if (isPaused(run)) add("resume", "Resume", "play", () => act(run, "resume", "Resumed"));
  if (["failed", "cancelled", "quarantined"].includes(run.status)) add("retry", "Retry", "retry", () => retry(run));
  if (!ended && run.status !== "quarantined") {
    add("send", "Send message", "send", () =>
      openSend(`v1/runs/${run.id}/messages`, run.wait?.kind === "message" ? run.wait.topic : ""),
    );
    if (!isPaused(run)) add("pause", "Pause", "pause", () => act(run, "pause", "Pausing"));
  }
  if (run.steps > 0) add("fork", "Fork", "fork", () => openFork(run, steps.at(-1)?.step ?? run.steps, steps));
  if (!ended) add("cancel", "Cancel", "stop", () => cancel(run), true);
  return actions;
}

/** @param {{run: object, steps: object[]}} props */
export function RunActions({ run, steps }) {
  return html`<div class="actions">
    ${actionsFor(run, steps).map(
      ({ id, label, icon, call, danger }) => html`<button key=${id} type="button" data-action=${id}
      class=${danger ? "button danger-text" : "button"} onClick=${call}><${Icon} name=${icon} />${label}</button>`,
    )}
  </div>`;
}

export const act = (run, verb, done, body = {}) => attempt(() => post(at("runs", run.id, verb), body), done);

export async function retry(run, fromStep) {
  const made = await act(run, "retry", "Trying again", fromStep ? { from_step: fromStep } : {});
  if (made && made.id !== run.id) go(link(["runs", made.id]));
}

function cancel(run) {
  const text = "The agent's clean-up code runs, then the run ends for good. What it did stays done.";
  confirm({ title: "Cancel this run?", text, action: "Cancel run", danger: true, input: "Reason (optional)" }, (reason) =>
    act(run, "cancel", "Cancelling", reason ? { reason } : {}),
  );
}

/**
 * A dialog that sends a message to a run or to a session.
 * @param {string} path
 * @param {string} [topic]
 */
export function openSend(path, topic = "") {
  openDialog({
    title: "Send a message",
    view: (close) => html`<${SendForm} path=${path} topic=${topic} close=${close} />`,
  });
}

function SendForm({ path, topic: first, close }) {
  const [topic, setTopic] = useState(first);
  const [text, setText] = useState("");
  const submit = async (event) => {
    event.preventDefault();
    if ((await attempt(() => post(path, { topic, value: textOrJson(text) }), "Sent")) !== undefined) close();
  };
  return html`<form class="stack" onSubmit=${submit}>
    <label class="field"><span class="label">Topic</span>
      <input class="input" required value=${topic} onInput=${(e) => setTopic(e.target.value)} /></label>
    <label class="field"><span class="label">Message</span>
      <textarea class="input" rows="4" value=${text} onInput=${(e) => setText(e.target.value)} /></label>
    <p class="hint">Text, or JSON: what reads as JSON is sent as JSON.</p>
    <footer class="dialog-foot"><button type="button" class="button" onClick=${close}>Close</button>
      <button class="button primary">Send</button></footer>
  </form>`;
}

/**
 * A dialog that forks a run: same past, another future.
 * @param {object} run
 * @param {number} step where the new run goes on live
 * @param {object[]} steps those known, for the choice
 */
export function openFork(run, step, steps = []) {
  openDialog({
    title: "Fork this run",
    view: (close) => html`<${ForkForm} run=${run} step=${step} steps=${steps} close=${close} />`,
  });
}

function ForkForm({ run, step: first, steps, close }) {
  const [step, setStep] = useState(first);
  const [change, setChange] = useState("nothing");
  const [input, setInput] = useState(run.input ?? {});
  const chosen = steps.find((one) => one.step === step);
  const [result, setResult] = useState(chosen?.result ?? null);
  const choose = (number) => {
    setStep(number);
    setResult(steps.find((one) => one.step === number)?.result ?? null);
  };
  const submit = async (event) => {
    event.preventDefault();
    const body = { at: step, ...(change === "input" ? { input } : {}), ...(change === "result" ? { result } : {}) };
    const made = await act(run, "fork", "Forked", body);
    if (!made) return;
    close();
    go(link(["runs", made.id]));
  };
  const before = step - 1;
  return html`<form class="stack" onSubmit=${submit}>
    <p class="muted">A new run that shares ${before === 0 ? "no step" : before === 1 ? "step 1" : `steps 1 to ${before}`} with this one: those are read from the journal and cost nothing.
      From step ${step} on it runs live: it acts on the world and spends money again.</p>
    <label class="field"><span class="label">Go on live from step</span>
      ${
        steps.length && steps.length <= 500
          ? html`<select class="input" onChange=${(e) => choose(Number(e.target.value))}>
          ${steps.map(
            (one) => html`<option value=${one.step} selected=${one.step === step}>${one.step} · ${one.name}
          </option>`,
          )}</select>`
          : html`<input class="input" type="number" min="1" max=${run.steps} value=${step}
            onInput=${(e) => choose(e.target.valueAsNumber || 1)} />`
      }
    </label>
    <fieldset class="fieldset bare"><legend class="label">Change</legend><div class="segmented" role="group">
      ${[
        ["nothing", "Nothing"],
        ["result", `Result of step ${step}`],
        ["input", "Input of the run"],
      ].map(
        ([id, label]) =>
          html`<button type="button" aria-pressed=${change === id} onClick=${() => setChange(id)}>${label}</button>`,
      )}
    </div></fieldset>
    ${change === "result" && html`<${JsonInput} key=${step}
      label=${`What step ${step}${chosen ? ` (${chosen.name})` : ""} is to have brought`} value=${result}
      onChange=${setResult} />`}
    ${change === "input" && html`<${JsonInput} label="Input, by parameter name" value=${input} onChange=${setInput}
      hint="With another input the steps before must still fit: fork at step 1 to be safe." />`}
    <footer class="dialog-foot"><button type="button" class="button" onClick=${close}>Close</button>
      <button class="button primary"
        disabled=${(change === "input" && input === undefined) || (change === "result" && result === undefined)}>
        <${Icon} name="fork" />Fork</button></footer>
  </form>`;
}

/** @param {{run: object, step: object}} props a step of which nobody knows whether it happened, and what a person can say */
export function ResolveCard({ run, step }) {
  const [happened, setHappened] = useState(false);
  const [result, setResult] = useState(() => firstValue(step.schema ?? {}));
  const [problems, setProblems] = useState({});
  const resolve = (outcome, more = {}) => act(run, "resolve", "Settled", { step: step.step, outcome, ...more });
  const submit = (event) => {
    event.preventDefault();
    const found = validate(step.schema ?? {}, result ?? null);
    setProblems(found);
    if (Object.keys(found).length === 0) resolve("happened", { result: result ?? null });
  };
  return html`<article class="ask">
    <header class="ask-head"><span class="ask-mark mark-unknown"><${Icon} name="alert" /></span>
      <div class="ask-what"><h2>Did <code>${step.name}</code> happen?</h2>
        <p class="meta"><span>Step ${step.step} was cut off while it acted on the world. Look there, then say what is true.</span></p></div></header>
    ${
      may("operator") &&
      html`<div class="stack">
      ${
        happened &&
        html`<form class="stack" onSubmit=${submit} novalidate><p class="label">What did it return?</p>
        <${SchemaForm} schema=${step.schema ?? {}} value=${result} onChange=${setResult} problems=${problems} />
        <footer class="ask-foot"><button class="button primary">It happened, with this result</button></footer></form>`
      }
      <footer class="ask-foot">
        ${!happened && html`<button type="button" class="button primary"
          onClick=${() => setHappened(true)}>It happened…</button>`}
        <button type="button" class="button" onClick=${() => resolve("run-again")}>It did not: run it again</button>
        <button type="button" class="button danger" onClick=${() => resolve("fail")}>Count it as failed</button>
      </footer></div>`
    }
  </article>`;
}

function textOrJson(text) {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}
