/** A list of any length of which only the visible rows exist. All rows have one height. */

import { html, useEffect, useLayoutEffect, useRef, useState } from "../dom.js";

const OVERSCAN_ROWS = 8;

/**
 * @template T
 * @param {object} props
 * @param {T[]} props.rows
 * @param {number} props.rowHeight in pixels
 * @param {(row: T, index: number) => any} props.view
 * @param {(row: T, index: number) => string | number} props.keyOf
 * @param {string} props.label
 * @param {boolean} [props.stick] keep the end in view while rows arrive
 * @param {number} [props.show] a row to bring into view
 * @param {any} [props.head] stays above the rows
 * @param {(first: number, last: number) => void} [props.onWindow] told which rows are in view
 */
export function Virtual({ rows, rowHeight, view, keyOf, label, stick = false, show, head, onWindow }) {
  const box = useRef(null);
  const [window, setWindow] = useState({ first: 0, last: 60 });

  const look = () => {
    if (!box.current) return; // its removal is a change of size, too
    const { scrollTop, clientHeight } = box.current;
    const first = Math.max(0, Math.floor(scrollTop / rowHeight) - OVERSCAN_ROWS);
    const last = Math.ceil((scrollTop + clientHeight) / rowHeight) + OVERSCAN_ROWS;
    onWindow?.(Math.floor(scrollTop / rowHeight), Math.ceil((scrollTop + clientHeight) / rowHeight));
    setWindow((known) => (known.first === first && known.last === last ? known : { first, last }));
  };

  useEffect(() => {
    const observer = new ResizeObserver(look);
    observer.observe(box.current);
    return () => observer.disconnect();
  }, []);

  useLayoutEffect(() => {
    if (stick) box.current.scrollTop = rows.length * rowHeight;
  }, [rows.length, stick]);

  useLayoutEffect(() => {
    if (show === undefined || show < 0) return;
    const { scrollTop, clientHeight } = box.current;
    if (show * rowHeight < scrollTop) box.current.scrollTop = show * rowHeight;
    else if ((show + 1) * rowHeight > scrollTop + clientHeight)
      box.current.scrollTop = (show + 1) * rowHeight - clientHeight;
  }, [show]);

  const visible = rows.slice(window.first, window.last);
  return html`<div class="virtual" style=${{ "--rows-height": `${rows.length * rowHeight}px` }} ref=${box} onScroll=${look}
    tabindex="0" role="region" aria-label=${label}>
    ${head}
    <div class="virtual-all" style=${{ height: `${rows.length * rowHeight}px` }}>
      <ol class="virtual-seen" style=${{ transform: `translateY(${window.first * rowHeight}px)` }}>
        ${visible.map((row, index) => html`<li key=${keyOf(row, window.first + index)}
          style=${{ height: `${rowHeight}px` }}>${view(row, window.first + index)}</li>`)}
      </ol>
    </div>
  </div>`;
}
