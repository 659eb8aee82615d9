/** A button that copies a text. */

import { html, useState } from "../dom.js";
import { notify } from "../store.js";
import { Icon } from "./icon.js";

/** @param {{text: string | (() => string), label?: string, bare?: boolean}} props */
export function Copy({ text, label = "Copy", bare = true }) {
  const [copied, setCopied] = useState(false);
  const copy = async (event) => {
    event.stopPropagation();
    await write(typeof text === "function" ? text() : text);
    setCopied(true);
    setTimeout(() => setCopied(false), 1_200);
  };
  const shown = copied ? "Copied" : label;
  return html`<button type="button" class=${bare ? "button quiet small" : "button small"} onClick=${copy}
    aria-label=${shown} title=${shown}>
    <${Icon} name=${copied ? "check" : "copy"} size="s" />${!bare && shown}
  </button>`;
}

async function write(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    copyBySelection(text); // the clipboard API is for secure origins only; a console on a LAN has http
  }
}

function copyBySelection(text) {
  const area = document.createElement("textarea");
  area.value = text;
  document.body.append(area);
  area.select();
  if (!document.execCommand("copy")) notify("This browser does not let us copy; select the text instead", "bad");
  area.remove();
}
