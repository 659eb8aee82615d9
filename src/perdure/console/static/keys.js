/** The keyboard: what is pressed goes to whoever asked for it last; never while somebody types. */

import { useEffect, useRef } from "./dom.js";

/** @type {Record<string, (event: KeyboardEvent) => unknown>[]} */
const layers = [];
const CHORD_MS = 1_000;
let chord = { key: "", at: 0 };

/**
 * Listen to keys while the component is there. Names: `j`, `Enter`, `g h` (one after the other), `mod+k`.
 * @param {Record<string, (event: KeyboardEvent) => unknown>} handlers what returns false passes the key on
 */
export function useKeys(handlers) {
  const latest = useRef(handlers);
  latest.current = handlers;
  useEffect(() => {
    const layer = new Proxy({}, { get: (_, name) => latest.current[name] });
    layers.push(layer);
    return () => layers.splice(layers.indexOf(layer), 1);
  }, []);
}

addEventListener("keydown", (event) => {
  const name = event.metaKey || event.ctrlKey ? `mod+${event.key.toLowerCase()}` : event.key;
  if (event.altKey || (!name.startsWith("mod+") && (typing(event.target) || document.querySelector("dialog[open]"))))
    return;
  const second = Date.now() - chord.at < CHORD_MS ? `${chord.key} ${name}` : "";
  chord = { key: name, at: Date.now() };
  for (const wanted of second ? [second, name] : [name]) {
    for (const layer of layers.toReversed()) {
      if (layer[wanted] && layer[wanted](event) !== false) {
        event.preventDefault();
        chord.at = 0;
        return;
      }
    }
  }
});

function typing(target) {
  if (target.isContentEditable || target.tagName === "TEXTAREA" || target.tagName === "SELECT") return true;
  return target.tagName === "INPUT" && !["checkbox", "radio", "range", "button"].includes(target.type);
}
