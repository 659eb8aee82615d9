/** An agent's code, with what its lines did in a run. */

import { html, names, useEffect, useRef } from "../dom.js";
import { count } from "../text.js";

/**
 * @param {object} props
 * @param {{file: string, first_line: number, text: string}} props.source
 * @param {Map<number, object[]>} [props.steps] steps by line
 * @param {number | null} [props.line] to be shown
 * @param {(step: number) => void} [props.onStep]
 */
export function Source({ source, steps = new Map(), line = null, onStep }) {
  const lines = source.text.replace(/\n$/, "").split("\n");
  const shown = useRef(null);
  useEffect(() => shown.current?.scrollIntoView({ block: "center" }), [line]);
  return html`<figure class="source"><figcaption class="meta mono">${source.file}:${source.first_line}</figcaption>
    <div class="source-lines" tabindex="0" role="region" aria-label="Source code">
      ${lines.map((text, index) => {
        const number = source.first_line + index;
        const here = steps.get(number) ?? [];
        return html`<div key=${number} ref=${number === line ? shown : null}
          class=${names("source-line", { on: number === line, hit: here.length })}>
          <span class="source-number">${number}</span><code>${highlight(text)}</code>
          ${here.length > 0 && html`<${Hits} steps=${here} onStep=${onStep} />`}</div>`;
      })}
    </div></figure>`;
}

function Hits({ steps, onStep }) {
  const worst = steps.find((step) => step.status === "failed") ?? steps.find((step) => step.status === "open") ?? steps[0];
  const tone = worst.status === "failed" ? "red" : worst.status === "open" ? "blue" : "green";
  return html`<button type="button" class=${`source-hits tone-${tone}`} onClick=${() => onStep?.(worst.step)}>
    ${steps.length === 1 ? `step ${worst.step}` : count(steps.length, "step")}</button>`;
}

const TOKENS =
  /(#.*$)|("""|'''|"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')|\b(async|await|def|class|return|if|elif|else|for|while|in|not|and|or|is|None|True|False|import|from|as|with|try|except|finally|raise|yield|lambda|pass|match|case)\b/g;

/** Enough colour to read Python by; not a parser. */
function highlight(text) {
  const parts = [];
  let done = 0;
  for (const match of text.matchAll(TOKENS)) {
    const kind = match[1] ? "comment" : match[2] ? "string" : "keyword";
    parts.push(text.slice(done, match.index), html`<span class=${`code-${kind}`}>${match[0]}</span>`);
    done = match.index + match[0].length;
  }
  return [...parts, text.slice(done)];
}
