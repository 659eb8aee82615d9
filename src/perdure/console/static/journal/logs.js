/** What would one look at to find out what went wrong? Progress, warnings, heartbeats, failed attempts. */

import { emittable } from "./steps.js";

/** @typedef {{seq: number, at: number, step: number | null, attempt: number | null, level: "info" | "warn" | "bad", text: string, data: any}} LogLine */

export class Logs {
  constructor() {
    /** @type {LogLine[]} */
    this.lines = [];
    this.#names = new Map();
  }

  #names;

  /** @param {object} event */
  take(event) {
    if (event.data.name && event.step !== null) this.#names.set(event.step, event.data.name);
    const said = SAYINGS[event.type] ?? (emittable(event.type) ? report : null);
    if (!said) return;
    const { seq, at, step, attempt } = event;
    this.lines.push({ seq, at, step, attempt, name: this.#names.get(step) ?? null, ...said(event.data, event) });
  }
}

const inWords = (error) => `${error?.type ?? "error"}: ${error?.message ?? ""}`;
/** What an error says beside its type and message, or null. */
function rest(error) {
  const { type, message, ...more } = error ?? {};
  return Object.keys(more).length ? more : null;
}

const report = (data, event) => ({ level: "info", text: event.type, data });

const SAYINGS = {
  "run.warning": (data) => ({ level: "warn", text: data.message, data: null }),
  "run.recovered": (data) => ({ level: "warn", text: `taken over after a crash, attempt ${data.attempt}`, data: null }),
  "run.quarantined": (data) => ({ level: "bad", text: `parked: ${inWords(data.error)}`, data: rest(data.error) }),
  "run.failing": (data) => ({ level: "bad", text: inWords(data.error), data: rest(data.error) }),
  "run.failed": (data) => ({ level: "bad", text: inWords(data.error), data: rest(data.error) }),
  "step.heartbeat": (data) => ({ level: "info", text: "heartbeat", data: data.details ?? null }),
  "step.failed": (data) => ({
    level: data.retry_at ? "warn" : "bad",
    text: inWords(data.error) + (data.retry_at ? "; tried again" : ""),
    data: rest(data.error),
  }),
  "step.unknown": (data) => ({ level: "bad", text: `nobody knows whether it happened: ${data.why}`, data: null }),
  "stream.reset": () => ({ level: "warn", text: "the stream began again with the next attempt", data: null }),
};
