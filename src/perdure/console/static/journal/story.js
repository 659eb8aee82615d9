/** What happened, as a conversation: turns of the agent, of people, of the outside world, folded from events as they arrive. */

import { emittable } from "./steps.js";

/**
 * @typedef {object} Turn one turn; which other fields it has depends on its kind
 * @property {string} key
 * @property {"input" | "tool" | "sleep" | "ask" | "approval" | "receive" | "message" | "sent" | "child" | "report" | "note" | "result" | "failure"} kind
 * @property {number} at milliseconds
 * @property {number} seq
 * @property {number} rev grows with each change
 */

export class Story {
  constructor() {
    /** @type {Turn[]} */
    this.turns = [];
    this.#byStep = new Map();
  }

  #byStep;

  /** @param {object} event */
  take(event) {
    const { type, data } = event;
    if (emittable(type)) this.#report(event);
    else if (type.startsWith("stream.")) this.#stream(event);
    else if (OPENINGS[type]) this.#open(event, OPENINGS[type]);
    else if (type in CLOSINGS) this.#change(event, CLOSINGS[type](data, event));
    else TELLERS[type]?.(this, event);
  }

  add(event, kind, fields) {
    const turn = { key: `${kind}${event.seq}`, kind, at: event.at, seq: event.seq, step: event.step, rev: 0, ...fields };
    this.turns.push(turn);
    return turn;
  }

  #open(event, kind) {
    const known = this.#byStep.get(event.step);
    if (known && kind === "tool") {
      this.#change(event, { status: "open", attempts: event.attempt ?? 1 });
      return;
    }
    const { data } = event;
    this.#byStep.set(
      event.step,
      this.add(event, kind, {
        ...data,
        at: event.at,
        status: "open",
        attempts: event.attempt ?? 1,
        failures: [],
        streams: new Map(),
        ended: null,
        args: data.args ?? data.input ?? null,
      }),
    );
  }

  #change(event, fields) {
    // The tail of a journal may hold the end of a step without its beginning.
    const turn = this.#byStep.get(event.step) ?? this.#late(event);
    Object.assign(turn, fields);
    if (fields.failure) turn.failures = [...turn.failures, { ...fields.failure, attempt: event.attempt, at: event.at }];
    if (fields.status && fields.status !== "open" && fields.status !== "retrying") turn.ended = event.at;
    turn.rev += 1;
  }

  #late(event) {
    const kind = { ask: "ask", approval: "approval", child: "child", timer: "sleep", step: "tool" }[
      event.type.split(".")[0]
    ];
    const turn = this.add(event, kind ?? "tool", {
      name: event.data.name ?? `step ${event.step}`,
      status: "open",
      attempts: event.attempt ?? 1,
      failures: [],
      streams: new Map(),
      args: null,
      ended: null,
    });
    this.#byStep.set(event.step, turn);
    return turn;
  }

  #stream(event) {
    const turn = this.#byStep.get(event.step);
    if (!turn) return;
    const { name = "" } = event.data;
    const known = turn.streams.get(name) ?? { text: "", items: [], live: true };
    if (event.type === "stream.reset") turn.streams.set(name, { text: "", items: [], live: true });
    else if (event.type === "stream.completed") turn.streams.set(name, { ...known, live: false });
    else turn.streams.set(name, grown(known, event.data));
    turn.rev += 1;
  }

  #report(event) {
    const last = this.turns.at(-1);
    if (event.type === "progress" && last?.kind === "report" && last.name === "progress") {
      Object.assign(last, { value: event.data, count: last.count + 1, rev: last.rev + 1 });
    } else {
      this.add(event, "report", { name: event.type, value: event.data, count: 1 });
    }
  }

  receive(event) {
    const waiting = [...this.#byStep.values()].find(
      (turn) => turn.kind === "receive" && turn.status === "open" && turn.name === event.data.topic,
    );
    if (waiting) Object.assign(waiting, { status: "done", ended: event.at, rev: waiting.rev + 1 });
    this.add(event, "message", event.data);
  }
}

const OPENINGS = {
  "step.started": "tool",
  "timer.started": "sleep",
  "ask.opened": "ask",
  "approval.requested": "approval",
  "message.awaited": "receive",
  "child.spawned": "child",
};

const CLOSINGS = {
  "step.completed": (data) => ({ status: "done", result: data.result }),
  "step.failed": (data) => ({ status: data.retry_at ? "retrying" : "failed", failure: data.error, due: data.retry_at }),
  "step.cancelled": (data) => ({ status: "withdrawn", outcome: data.outcome }),
  "step.unknown": (data) => ({ status: "unknown", why: data.why }),
  "step.resolved": (data) => ({
    status: { happened: "done", fail: "failed" }[data.outcome] ?? "open",
    result: data.result,
    resolved: data,
  }),
  "timer.fired": () => ({ status: "done" }),
  "child.ended": (data) => ({
    status: data.status === "succeeded" ? "done" : "failed",
    result: data.result,
    ...(data.error ? { failure: data.error } : {}),
  }),
  "ask.answered": (data) => ({ status: "done", value: data.value, by: data.by }),
  "ask.expired": () => ({ status: "expired" }),
  "ask.withdrawn": () => ({ status: "withdrawn" }),
  "approval.granted": (data) => ({ status: "done", granted: data.args, by: data.by, note: data.note }),
  "approval.rejected": (data) => ({ status: "rejected", by: data.by, note: data.note }),
  "approval.expired": () => ({ status: "expired" }),
  "approval.withdrawn": () => ({ status: "withdrawn" }),
};

const note = (tone, words) => (story, event) => story.add(event, "note", { tone, text: words(event.data, event) });
const by = (data) => (data.by ? ` by ${data.by}` : "") + (data.reason || data.note ? `: ${data.reason || data.note}` : "");

const TELLERS = {
  "run.queued": (story, event) => story.add(event, "input", { input: event.data.input ?? null, agent: event.data.agent }),
  "run.forked": (story, event) => {
    story.add(event, "note", {
      tone: "plain",
      text: `Forked from ${event.data.from} at step ${event.data.at}`,
      run: event.data.from,
    });
    if ("input" in event.data) story.add(event, "input", { input: event.data.input });
  },
  "message.received": (story, event) => story.receive(event),
  "message.sent": (story, event) => story.add(event, "sent", event.data),
  "run.recovered": note(
    "good",
    (data) => `Taken over after a crash${data.node ? ` by ${data.node}` : ""}: what was done is replayed, not repeated`,
  ),
  "run.paused": note("plain", (data) => `Paused${by(data)}`),
  "run.resumed": note("plain", (data) => `Resumed${by(data)}`),
  "run.cancelling": note("plain", (data) => `Being cancelled${by(data)}`),
  "run.failing": note("bad", (data) => `Cannot go on: ${data.error?.message ?? "see the events"}`),
  "run.quarantined": note("bad", (data) => `Parked for a person to look at: ${data.error?.message ?? data.reason}`),
  "run.released": note("plain", (data) => `Released from quarantine${by(data)}`),
  "run.patched": note("plain", (data) => `Took a new code path: ${data.name}`),
  "run.warning": note("warn", (data) => data.message),
  "run.cancelled": note("plain", (data) => `Cancelled${by(data)}`),
  "run.continued": (story, event) =>
    story.add(event, "note", { tone: "plain", text: "The work goes on in another run", run: event.data.run }),
  "run.succeeded": (story, event) => story.add(event, "result", { result: event.data.result ?? null }),
  "run.failed": (story, event) => story.add(event, "failure", { error: event.data.error ?? {} }),
};

function grown(known, data) {
  if (data.items) return { ...known, items: [...known.items, ...data.items], live: true };
  return { ...known, text: known.text + (data.text ?? ""), live: true };
}
