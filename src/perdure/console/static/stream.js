/**
 * Server-sent events that survive anything: a lost connection, a restarted server, a tab in the background.
 *
 * Not EventSource: that one cannot say how long it waits, and keeps hidden tabs connected. Browsers give one host six
 * connections in all tabs together, so a tab that nobody looks at lets go of its own and resumes where it was.
 */

import { problemOf, url } from "./api.js";

const FIRST_WAIT_MS = 250;
const LONGEST_WAIT_MS = 5_000;
const HIDDEN_AFTER_MS = 20_000;

/** @typedef {"connecting" | "open" | "lost" | "ended"} StreamState */

/**
 * Follow a stream until it ends or `close` is called.
 * @param {string} path
 * @param {object} options
 * @param {Record<string, unknown>} [options.query]
 * @param {string} [options.lastId] go on after this one
 * @param {(type: string, data: any, id: string) => void} options.onEvent
 * @param {(state: StreamState) => void} [options.onState]
 * @returns {{close: () => void}}
 */
export function follow(path, { query, lastId = "", onEvent, onState = () => {} }) {
  let closed = false;
  let current = new AbortController();
  let wait = FIRST_WAIT_MS;

  const take = (message) => {
    if (message.id !== undefined) lastId = message.id;
    if (message.data !== "") onEvent(message.type, JSON.parse(message.data), lastId);
  };

  async function once() {
    current = new AbortController();
    const release = releaseWhenHidden(current);
    try {
      const headers = { Accept: "text/event-stream", ...(lastId ? { "Last-Event-ID": lastId } : {}) };
      const response = await fetch(url(path, query), { headers, signal: current.signal });
      if (response.status === 204) return "ended";
      if (!response.ok) throw await problemOf(response);
      onState("open");
      wait = FIRST_WAIT_MS;
      await readMessages(response.body, take);
      return "lost";
    } finally {
      release();
    }
  }

  (async () => {
    onState("connecting");
    while (!closed) {
      let state = "lost";
      try {
        state = await once();
      } catch (error) {
        if ([401, 403, 404].includes(error.status)) state = "ended"; // asking again brings the same answer
      }
      if (closed || state === "ended") break;
      await visible();
      onState("lost");
      await pause(wait * (0.75 + Math.random() / 2));
      wait = Math.min(LONGEST_WAIT_MS, wait * 2);
    }
    onState("ended");
  })();

  return {
    close() {
      closed = true;
      current.abort();
    },
  };
}

async function readMessages(body, take) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let message = { type: "message", data: "" };
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const lines = (rest + value).split(/\r?\n/);
    rest = lines.pop();
    for (const line of lines) {
      if (line === "") {
        take(message);
        message = { type: "message", data: "" };
      } else {
        readField(message, line);
      }
    }
  }
}

function readField(message, line) {
  const colon = line.indexOf(":");
  if (colon === 0) return; // a comment: the server's heartbeat
  const name = colon < 0 ? line : line.slice(0, colon);
  const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
  if (name === "data") message.data += (message.data && "\n") + value;
  else if (name === "event") message.type = value;
  else if (name === "id") message.id = value;
}

function releaseWhenHidden(controller) {
  let timer = 0;
  const look = () => {
    clearTimeout(timer);
    if (document.hidden) timer = setTimeout(() => controller.abort(), HIDDEN_AFTER_MS);
  };
  document.addEventListener("visibilitychange", look);
  look();
  return () => {
    clearTimeout(timer);
    document.removeEventListener("visibilitychange", look);
  };
}

function visible() {
  if (!document.hidden) return Promise.resolve();
  return new Promise((resolve) => {
    const look = () => {
      if (document.hidden) return;
      document.removeEventListener("visibilitychange", look);
      resolve();
    };
    document.addEventListener("visibilitychange", look);
  });
}

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
