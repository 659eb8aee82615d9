/** What did the session's state look like at each moment of a run? */

export class StateHistory {
  constructor() {
    /** The state before the run's first change. */
    this.initial = {};
    /** @type {{seq: number, at: number, set: Record<string, any>, unset: string[]}[]} */
    this.changes = [];
  }

  /** @param {object} event */
  take(event) {
    if (event.type === "run.started") this.initial = event.data.state ?? {};
    if (event.type !== "state.changed") return;
    this.changes.push({ seq: event.seq, at: event.at, set: event.data.set ?? {}, unset: event.data.unset ?? [] });
  }

  /**
   * The state after the first `count` changes, and which names the last of them touched.
   * @param {number} count
   */
  after(count) {
    const state = { ...this.initial };
    for (const change of this.changes.slice(0, count)) {
      Object.assign(state, change.set);
      for (const name of change.unset) delete state[name];
    }
    const last = count > 0 ? this.changes[count - 1] : null;
    return { state, changed: new Set(last ? Object.keys(last.set) : []), removed: last?.unset ?? [] };
  }
}
