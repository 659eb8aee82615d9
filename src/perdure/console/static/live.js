/** Data of the visible view, kept fresh: fetched once, and again when something changed; one request at a time. */

import { useEffect, useRef, useState } from "./dom.js";
import { changes } from "./store.js";

const SPACING_MS = 250;

/**
 * @template T
 * @param {(signal: AbortSignal) => Promise<T>} load
 * @param {unknown[]} inputs load anew when one of them changes
 * @param {{concerns?: (change: {runs: string[]}) => boolean}} [options] concerns: whether a change is worth another look
 * @returns {{data: T | null, problem: Error | null, reload: () => void}}
 */
export function useLive(load, inputs, { concerns = () => true } = {}) {
  const [state, setState] = useState({ data: null, problem: null });
  const latest = useRef({ load, concerns });
  latest.current = { load, concerns };
  const reload = useRef(() => {});

  useEffect(() => {
    const abort = new AbortController();
    let busy = false;
    let again = false;
    setState((known) => ({ ...known, problem: null }));

    reload.current = async () => {
      if (busy) {
        again = true;
        return;
      }
      busy = true;
      const settle = await latest.current.load(abort.signal).then(
        (data) => ({ data, problem: null }),
        (problem) => ({ problem }),
      );
      if (abort.signal.aborted) return;
      setState((known) => ({ ...known, ...settle }));
      setTimeout(() => {
        busy = false;
        if (again && !abort.signal.aborted) {
          again = false;
          reload.current();
        }
      }, SPACING_MS);
    };

    reload.current();
    let first = true;
    const unsubscribe = changes.subscribe((change) => {
      if (!first && latest.current.concerns(change)) reload.current();
      first = false;
    });
    return () => {
      abort.abort();
      unsubscribe();
    };
  }, inputs);

  return { ...state, reload: () => reload.current() };
}
