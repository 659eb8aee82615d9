/** One short line for an event, as `perdure events` prints it. */

import { short } from "../text.js";

const by = (data) => (data.by ? ` by ${data.by}` : "") + (data.reason || data.note ? `: ${data.reason || data.note}` : "");
const failure = (data) => `${data.error?.type ?? "error"}: ${data.error?.message ?? ""}`;

/** @param {{type: string, data: any}} event */
export function inWords({ type, data }) {
  return WORDS[type]?.(data) ?? (Object.keys(data).length ? short(data, 160) : "");
}

const WORDS = {
  "run.queued": (data) => `recorded ${data.agent} ${short(data.input, 120)}`,
  "run.started": () => "started",
  "run.recovered": (data) => `taken over after a crash, attempt ${data.attempt}`,
  "run.forked": (data) => `from ${data.from} at step ${data.at}`,
  "run.paused": (data) => `paused${by(data)}`,
  "run.resumed": (data) => `resumed${by(data)}`,
  "run.failing": failure,
  "run.cancelling": (data) => `being cancelled${by(data)}`,
  "run.quarantined": failure,
  "run.warning": (data) => data.message,
  "run.succeeded": (data) => short(data.result, 160),
  "run.failed": failure,
  "run.cancelled": (data) => `cancelled${by(data)}`,
  "run.continued": (data) => `goes on as ${data.run}`,
  "step.started": (data) => `${data.name} ${short(data.args, 140)}`,
  "step.completed": (data) => `${data.name} done ${short(data.result, 140)}`,
  "step.failed": (data) => `${data.name} ${failure(data)}${data.retry_at ? `; again at ${data.retry_at}` : ""}`,
  "step.cancelled": (data) => `${data.name} given up (${data.outcome})`,
  "step.heartbeat": (data) => short(data.details, 140),
  "step.unknown": (data) => `nobody knows whether ${data.name} happened: ${data.why}`,
  "step.resolved": (data) => `${data.name} settled as ${data.outcome}${by(data)}`,
  "child.spawned": (data) => `${data.name} as ${data.run}`,
  "child.ended": (data) => `${data.run} ${data.status}`,
  "timer.started": (data) => `sleeps until ${data.due}`,
  "timer.fired": () => "slept",
  "ask.opened": (data) => `asks ${data.to ?? "anybody"}: ${data.question}`,
  "ask.answered": (data) => `answered${by(data)} ${short(data.value, 120)}`,
  "ask.expired": () => "nobody answered in time",
  "approval.requested": (data) => `wants ${data.to ?? "anybody"} to approve ${data.name} ${short(data.args, 120)}`,
  "approval.granted": (data) => `approved${by(data)}`,
  "approval.rejected": (data) => `rejected${by(data)}`,
  "approval.expired": () => "nobody decided in time",
  "message.awaited": (data) => `waits for a message on ${data.name}`,
  "message.received": (data) => `${data.topic} ${short(data.value, 140)}`,
  "message.sent": (data) => `${data.name} to ${data.to} ${short(data.value, 120)}`,
  "stream.delta": (data) => data.text ?? short(data.items, 140),
};
