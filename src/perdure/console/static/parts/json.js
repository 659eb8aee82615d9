/** JSON values for people: text as text, small things inline, large ones as a tree to open. */

import { html, useState } from "../dom.js";
import { count, pretty, short } from "../text.js";
import { Copy } from "./copy.js";

const INLINE_CHARACTERS = 72;
const CHILDREN_SHOWN = 100;

/**
 * A value where it stands in a sentence or a card.
 * @param {{value: any}} props
 */
export function Value({ value }) {
  if (typeof value === "string") return html`<span class="prose">${value}</span>`;
  if (value === null || typeof value !== "object") return html`<${Scalar} value=${value} />`;
  if (Array.isArray(value) && value.length > 0 && value.every(isWord)) {
    return html`<span class="words">${value.map((item) => html`<span>${String(item)}</span>`)}</span>`;
  }
  const entries = Object.entries(value);
  const flat = !Array.isArray(value) && entries.length > 0 && entries.length <= 12;
  if (flat && entries.every(([, item]) => isShort(item))) {
    return html`<dl class="fields">
      ${entries.map(([name, item]) => html`<div key=${name}><dt>${name}</dt><dd><${Value} value=${item} /></dd></div>`)}
    </dl>`;
  }
  return html`<${Json} value=${value} />`;
}

/**
 * A JSON tree with a button to copy it.
 * @param {{value: any, open?: number}} props open: how many levels are open at first
 */
export function Json({ value, open = 2 }) {
  return html`<div class="json"><div class="json-copy"><${Copy} text=${() => pretty(value)} label="Copy JSON" /></div>
    <${Node} value=${value} open=${open} /></div>`;
}

function Node({ name, value, open }) {
  if (value === null || typeof value !== "object")
    return html`<div class="json-row"><${Name} name=${name} />
    <${Scalar} value=${value} quoted /></div>`;
  const entries = Object.entries(value);
  const text = JSON.stringify(value);
  if (text.length <= INLINE_CHARACTERS || entries.length === 0) {
    return html`<div class="json-row"><${Name} name=${name} /><span class="json-inline">${text}</span></div>`;
  }
  return html`<${Branch} name=${name} entries=${entries} array=${Array.isArray(value)} open=${open} />`;
}

function Branch({ name, entries, array, open }) {
  const [shown, setShown] = useState(open > 0);
  const [limit, setLimit] = useState(CHILDREN_SHOWN);
  const size = count(entries.length, array ? "item" : "field");
  return html`<div class="json-branch">
    <button type="button" class="json-toggle" aria-expanded=${shown} onClick=${() => setShown(!shown)}>
      <span class="caret" /><${Name} name=${name} /><span class="json-size">
        ${array ? "[" : "{"} ${size} ${array ? "]" : "}"}</span>
    </button>
    ${
      shown &&
      html`<div class="json-children">
      ${entries.slice(0, limit).map(([key, item]) => html`<${Node} key=${key} name=${key} value=${item}
        open=${open - 1} />`)}
      ${
        entries.length > limit &&
        html`<button type="button" class="button quiet small" onClick=${() => setLimit(limit * 10)}>
        ${count(entries.length - limit, "more", "more")}
      </button>`
      }
    </div>`
    }
  </div>`;
}

const Name = ({ name }) => name !== undefined && html`<span class="json-name">${name}</span>`;

function Scalar({ value, quoted = false }) {
  if (typeof value === "string") return html`<span class="json-string">${quoted ? JSON.stringify(value) : value}</span>`;
  return html`<span class=${`json-${value === null ? "null" : typeof value}`}>${String(value)}</span>`;
}

const isWord = (item) => (typeof item === "string" ? item.length > 0 && item.length < 40 : typeof item === "number");
const isShort = (item) => (typeof item === "string" ? item.length < 400 : short(item, 60).length < 60);
