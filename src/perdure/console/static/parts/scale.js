/** A time axis that folds long waits, so that a run of three days with ten busy seconds still shows them. */

/**
 * @typedef {object} Scale
 * @property {(ms: number) => number} place where a moment is, 0..1
 * @property {(place: number) => number} time the moment at a place
 * @property {boolean} folded whether long gaps are shown shorter than they were
 */

/**
 * @param {number[]} moments of everything that happened, in any order
 * @param {boolean} fold
 * @returns {Scale}
 */
export function scaleOf(moments, fold) {
  const times = [...new Set(moments)].sort((a, b) => a - b);
  if (times.length < 2) times.push((times[0] ?? 0) + 1);
  const longest = fold ? usualGap(times) * 4 : Infinity;
  const places = [0];
  let folded = false;
  for (let i = 1; i < times.length; i += 1) {
    const gap = times[i] - times[i - 1];
    folded ||= gap > longest;
    // Beyond the usual, a gap grows with its logarithm: longer still looks longer.
    places.push(places[i - 1] + (gap > longest ? longest * (1 + Math.log(gap / longest) / 4) : gap));
  }
  const total = places.at(-1);
  return {
    folded,
    place: (ms) => interpolate(times, places, ms) / total,
    time: (place) => interpolate(places, times, place * total),
  };
}

/** A gap that nine of ten do not exceed, at least a tenth of a second. */
function usualGap(times) {
  const gaps = times
    .slice(1)
    .map((time, index) => time - times[index])
    .sort((a, b) => a - b);
  return Math.max(100, gaps[Math.floor((gaps.length - 1) * 0.8)]);
}

function interpolate(from, to, value) {
  if (value <= from[0]) return to[0];
  if (value >= from.at(-1)) return to.at(-1);
  let low = 0;
  let high = from.length - 1;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (from[middle] <= value) low = middle;
    else high = middle;
  }
  const part = (value - from[low]) / (from[high] - from[low] || 1);
  return to[low] + part * (to[high] - to[low]);
}
