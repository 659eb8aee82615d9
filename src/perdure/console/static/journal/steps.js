/**
 * What did a run do, step by step? Events folded into one record for each step, as they arrive.
 *
 * The twin of perdure.journal.timeline, plus what a waterfall needs: the stretches of work and of waiting in each step.
 */

/**
 * @typedef {object} Stretch
 * @property {"work" | "wait"} kind
 * @property {number} from milliseconds
 * @property {number | null} to null while it lasts
 * @property {boolean} [failed]
 * @property {number} [attempt]
 */

/**
 * @typedef {object} Step
 * @property {number} step
 * @property {string} kind tool | sleep | ask | approval | receive | send | child | emit
 * @property {string} name
 * @property {string | null} at file:line
 * @property {string} status open | retrying | unknown | done | failed | expired | rejected | withdrawn
 * @property {number} attempts
 * @property {any} args
 * @property {any} result
 * @property {{type: string, message: string} | null} error
 * @property {string | null} refers the child run, or the ask
 * @property {string | null} due
 * @property {number} started milliseconds
 * @property {number | null} ended
 * @property {number} seq of its first event
 * @property {string | null} effect
 * @property {Stretch[]} stretches
 */

const WAITING_KINDS = new Set(["sleep", "ask", "approval", "receive", "child"]);

export class Steps {
  constructor() {
    /** @type {Map<number, Step>} */
    this.byNumber = new Map();
    /** @type {Step[]} in the order of their numbers */
    this.list = [];
  }

  /** @param {object} event */
  take(event) {
    if (event.step === null) {
      if (event.type === "message.received") this.#giveMessage(event);
      else if (TERMINAL.has(event.type)) this.#endRun(event);
      else if (event.type === "run.recovered") this.#cutOff(event);
    } else if (event.attempt === null && emittable(event.type)) {
      this.#add(instant(event, "emit", event.type, event.data));
    } else {
      READERS[event.type]?.(this, event);
    }
  }

  open(event) {
    const known = this.byNumber.get(event.step);
    if (known && event.type === "step.started") {
      known.attempts = event.attempt ?? known.attempts;
      known.status = "open";
      known.due = null;
      this.turn(known, event, "work");
      return;
    }
    const { data } = event;
    const step = record(event, data.kind, data.name, {
      at: data.at ?? null,
      attempts: event.attempt ?? 1,
      args: asked(event),
      refers: data.run ?? data.id ?? null,
      due: data.due ?? data.deadline ?? null,
      effect: data.effect ?? null,
      detached: data.detach ?? false,
    });
    this.#add(step);
    this.turn(step, event, WAITING_KINDS.has(step.kind) ? "wait" : "work");
  }

  send(event) {
    const { name, to, value, at } = event.data;
    this.#add({ ...instant(event, "send", name, { to, value }), at: at ?? null });
  }

  end(event, status, result) {
    const step = this.byNumber.get(event.step);
    if (!step) return;
    close(step, status, event);
    step.result = result ?? null;
  }

  fail(event) {
    const step = this.byNumber.get(event.step);
    if (!step) return;
    step.error = event.data.error ?? null;
    step.due = event.data.retry_at ?? null;
    finish(step, event, true);
    if (step.due) {
      step.status = "retrying";
      this.turn(step, event, "wait");
    } else {
      close(step, "failed", event);
    }
  }

  resolve(event) {
    const step = this.byNumber.get(event.step);
    if (!step) return;
    const { outcome } = event.data;
    if (outcome === "happened") this.end(event, "done", event.data.result);
    else if (outcome === "fail") close(step, "failed", event);
    else step.status = "open";
  }

  unknown(event) {
    const step = this.byNumber.get(event.step);
    if (!step) return;
    step.status = "unknown";
    step.schema = event.data.schema ?? {};
    this.turn(step, event, "wait");
  }

  fire(event) {
    this.end(event, "done");
    const receive = this.byNumber.get(event.step - 1);
    if (receive?.status === "open" && this.#timeoutOf(receive)) close(receive, "expired", event);
  }

  /** Begin another stretch of a step, and end the one before. */
  turn(step, event, kind) {
    finish(step, event, false);
    step.stretches.push({ kind, from: event.at, to: null, attempt: event.attempt ?? step.attempts });
  }

  #add(step) {
    if (!this.byNumber.has(step.step)) {
      // Numbers arrive almost in order; steps of one commit may be a little off.
      let place = this.list.length;
      while (place > 0 && this.list[place - 1].step > step.step) place -= 1;
      this.list.splice(place, 0, step);
    } else {
      this.list[this.list.indexOf(this.byNumber.get(step.step))] = step;
    }
    this.byNumber.set(step.step, step);
  }

  #giveMessage(event) {
    const receive = this.list.find((s) => s.kind === "receive" && s.status === "open" && s.name === event.data.topic);
    if (!receive) return;
    close(receive, "done", event);
    receive.result = event.data.value;
    const timeout = this.#timeoutOf(receive);
    if (timeout?.status === "open") close(timeout, "withdrawn", event);
  }

  #timeoutOf(receive) {
    // `receive(timeout=)` starts its timer as the next step, in the same commit, from the same line.
    const timer = this.byNumber.get(receive.step + 1);
    if (receive.kind !== "receive" || !receive.at || timer?.kind !== "sleep") return null;
    return timer.at === receive.at && timer.started === receive.started ? timer : null;
  }

  #cutOff(event) {
    for (const step of this.list) if (step.status === "open" && step.kind === "tool") this.turn(step, event, "wait");
  }

  #endRun(event) {
    for (const step of this.list) {
      if (["open", "retrying"].includes(step.status) && !step.detached) close(step, "withdrawn", event);
    }
  }
}

export const TERMINAL = new Set(["run.succeeded", "run.failed", "run.cancelled", "run.continued"]);

/** True for what agents report: it has a step's number, but no attempt. */
export const emittable = (type) => type === "progress" || type === "artifact" || type.startsWith("custom.");

/**
 * A step as the API sends it, in the shape that this module makes.
 * @param {object} step
 * @returns {Step}
 */
export function stepOf(step) {
  const started = Date.parse(step.started);
  const ended = step.ended ? Date.parse(step.ended) : null;
  const kind = WAITING_KINDS.has(step.kind) ? "wait" : "work";
  const stretches = [{ kind, from: started, to: ended, failed: step.status === "failed", attempt: step.attempts }];
  return { ...step, started, ended, seq: 0, effect: null, stretches };
}

const end = (status, field) => (steps, event) => steps.end(event, status, field && event.data[field]);
const open = (steps, event) => steps.open(event);

const READERS = {
  "step.started": open,
  "child.spawned": open,
  "timer.started": open,
  "ask.opened": open,
  "approval.requested": open,
  "message.awaited": open,
  "message.sent": (steps, event) => steps.send(event),
  "step.completed": end("done", "result"),
  "step.failed": (steps, event) => steps.fail(event),
  "step.cancelled": end("withdrawn"),
  "step.unknown": (steps, event) => steps.unknown(event),
  "step.resolved": (steps, event) => steps.resolve(event),
  "child.ended": (steps, event) => {
    steps.end(event, event.data.status === "succeeded" ? "done" : "failed", event.data.result);
    const step = steps.byNumber.get(event.step);
    if (step) step.error = event.data.error ?? null;
  },
  "timer.fired": (steps, event) => steps.fire(event),
  "ask.answered": end("done", "value"),
  "ask.expired": end("expired"),
  "ask.withdrawn": end("withdrawn"),
  "approval.granted": end("done", "args"),
  "approval.rejected": end("rejected"),
  "approval.expired": end("expired"),
  "approval.withdrawn": end("withdrawn"),
};

function record(event, kind, name, fields) {
  return {
    step: event.step,
    kind,
    name,
    at: null,
    status: "open",
    attempts: 1,
    args: null,
    result: null,
    error: null,
    refers: null,
    due: null,
    started: event.at,
    ended: null,
    seq: event.seq,
    effect: null,
    stretches: [],
    ...fields,
  };
}

function instant(event, kind, name, args) {
  const stretches = [{ kind: "work", from: event.at, to: event.at }];
  return record(event, kind, name, { args, status: "done", ended: event.at, stretches });
}

function asked(event) {
  if (event.type !== "ask.opened") return event.data.args ?? event.data.input ?? null;
  const { question, to } = event.data;
  return to ? { question, to } : { question };
}

function close(step, status, event) {
  finish(step, event, status === "failed");
  step.status = status;
  step.ended = event.at;
  step.due = null;
}

function finish(step, event, failed) {
  const last = step.stretches.at(-1);
  if (!last || last.to !== null) return;
  last.to = event.at;
  last.failed = failed;
}
