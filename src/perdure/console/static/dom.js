/** What every part of the console renders with: Preact, its hooks, signals, and `html` templates. */

import { h, Component } from "./vendor/preact.js";
import htm from "./vendor/htm.js";

export { render } from "./vendor/preact.js";
export { useEffect, useId, useLayoutEffect, useMemo, useRef, useState } from "./vendor/hooks.js";
export { effect, signal } from "./vendor/signals.js";

export const html = htm.bind(h);

/**
 * A component that renders again only when its `rev` changes: turns are mutable records that count their own changes. Hand `rev` on
 * to the components within: a component whose props are the same ones is not rendered again.
 * @template P
 * @param {(props: P & {rev: number}) => any} view
 */
export function steady(view) {
  return class Steady extends Component {
    shouldComponentUpdate(next) {
      return next.rev !== this.props.rev || next.open !== this.props.open;
    }

    render(props) {
      return view(props);
    }
  };
}

/**
 * Class names out of conditions: `names("row", {open: isOpen})`.
 * @param {...(string | null | undefined | false | Record<string, unknown>)} parts
 */
export function names(...parts) {
  return parts
    .flatMap((part) => (part && typeof part === "object" ? Object.keys(part).filter((name) => part[name]) : part || []))
    .join(" ");
}
