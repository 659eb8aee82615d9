/**
 * The journal of one run, live: the pages that are there, then a stream after the last of them.
 *
 * What arrives within one animation frame is shown at once: ten thousand events are a handful of renderings.
 */

import { at, get } from "../api.js";
import { signal } from "../dom.js";
import { follow } from "../stream.js";
import { Logs } from "./logs.js";
import { StateHistory } from "./state.js";
import { Steps, TERMINAL } from "./steps.js";
import { Story } from "./story.js";

const PAGE = 1_000;
const PAGES_AT_ONCE = 3;

export class Feed {
  /** @param {string} run its id */
  constructor(run) {
    this.run = run;
    this.events = [];
    this.steps = new Steps();
    this.story = new Story();
    this.state = new StateHistory();
    this.logs = new Logs();
    /** Grows whenever there is something new to show. */
    this.version = signal(0);
    /** loading | connecting | open | lost | ended */
    this.connection = signal("loading");
    /** Why the journal cannot be read, or null. */
    this.problem = signal(null);
    this.recoveries = [];
  }

  #abort = new AbortController();
  #stream = null;
  #frame = 0;

  /** The last event's number, or 0. */
  get seq() {
    return this.events.at(-1)?.seq ?? 0;
  }

  get over() {
    return TERMINAL.has(this.events.at(-1)?.type);
  }

  /** Read what is there, then follow; call `close` in the end. */
  async open() {
    try {
      await this.#readPages();
    } catch (problem) {
      if (problem.name === "AbortError") return;
      this.problem.value = problem;
      this.connection.value = "ended";
      return;
    }
    if (this.over) {
      this.connection.value = "ended";
      return;
    }
    this.#stream = follow(at("runs", this.run, "events"), {
      lastId: String(this.seq),
      query: { after: this.seq },
      onEvent: (_, event) => this.#arrive(event),
      onState: (state) => {
        this.connection.value = state;
      },
    });
  }

  close() {
    this.#abort.abort();
    this.#stream?.close();
    cancelAnimationFrame(this.#frame);
  }

  /** @param {object} event in the order of the journal; one that is known already is passed over */
  take(event) {
    if (event.seq <= this.seq) return;
    event.at = Date.parse(event.time);
    event.step ??= null;
    event.attempt ??= null;
    this.events.push(event);
    if (event.type === "run.recovered") this.recoveries.push({ event, replayed: this.#settledSteps() });
    for (const view of [this.steps, this.story, this.state, this.logs]) view.take(event);
  }

  async #readPages() {
    const read = (after) => {
      const page = get(at("runs", this.run, "events"), { after, limit: PAGE }, this.#abort.signal);
      page.catch(() => {}); // once one has failed, nobody waits for those behind it
      return page;
    };
    // Numbers are dense, so the pages after the first need not wait for each other.
    for (
      let pages = [read(0)], more = true;
      more;
      pages = Array.from({ length: PAGES_AT_ONCE }, (_, index) => read(this.seq + index * PAGE))
    ) {
      for (const page of pages) more = this.#takePage(await page);
    }
  }

  /** @returns {boolean} whether there is more */
  #takePage({ items, next }) {
    for (const event of items) this.take(event);
    this.#show();
    return next !== null && items.length > 0;
  }

  #arrive(event) {
    this.take(event);
    if (this.over) this.#stream?.close();
    this.#show();
  }

  /** Once in a frame, however much arrives. */
  #show() {
    this.#frame ||= requestAnimationFrame(() => {
      this.#frame = 0;
      this.version.value += 1;
      if (this.over) this.connection.value = "ended";
    });
  }

  #settledSteps() {
    return this.steps.list.filter((step) => step.ended !== null).length;
  }
}
