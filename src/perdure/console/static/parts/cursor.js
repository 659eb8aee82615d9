/** A place in a list that j and k move, and enter opens. */

import { useEffect, useState } from "../dom.js";
import { useKeys } from "../keys.js";

/**
 * @param {{id: string}[]} items
 * @param {(item: any) => void} open
 * @returns {{current: string | null, set: (id: string | null) => void}} current: the id under the cursor
 */
export function useCursor(items, open) {
  const [current, set] = useState(null);
  const index = items.findIndex((item) => item.id === current);
  const move = (by) => {
    if (items.length) set(items[Math.min(items.length - 1, Math.max(0, index < 0 ? 0 : index + by))].id);
  };
  useKeys({
    j: () => move(1),
    k: () => move(-1),
    Enter: (event) => {
      if (index < 0 || event.target.closest("a, button")) return false;
      open(items[index]);
      return true;
    },
  });
  useEffect(() => {
    document.querySelector("[data-cursor=true]")?.scrollIntoView({ block: "nearest" });
  }, [current]);
  return { current, set };
}
