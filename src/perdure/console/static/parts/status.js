/** Is it moving, and how did it end? One look for runs, one for steps. */

import { html } from "../dom.js";

const TONES = {
  queued: "plain",
  running: "blue",
  waiting: "amber",
  paused: "plain",
  succeeded: "green",
  failed: "red",
  cancelled: "plain",
  quarantined: "pink",
};

export const STATUSES = Object.keys(TONES);
export const ENDED = new Set(["succeeded", "failed", "cancelled"]);

/** @param {{status: string, size?: "m" | "l"}} props */
export function StatusPill({ status, size = "m" }) {
  return html`<span class=${`pill pill-${size} tone-${TONES[status] ?? "plain"}`} data-status=${status}>
    <i class="dot" />${status}</span>`;
}

const STEP_TONES = {
  open: "blue",
  retrying: "amber",
  unknown: "pink",
  done: "green",
  failed: "red",
  expired: "amber",
  rejected: "red",
  withdrawn: "plain",
};

/** @param {{status: string}} props */
export function StepStatus({ status }) {
  return html`<span class=${`pill tone-${STEP_TONES[status] ?? "plain"}`} data-status=${status}>
    <i class="dot" />${status}</span>`;
}

export const stepTone = (status) => STEP_TONES[status] ?? "plain";
