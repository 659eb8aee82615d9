/** Icons of the one sprite; they are decoration, the words beside them say what is meant. */

import { html } from "../dom.js";

/** @param {{name: string, size?: "s" | "m" | "l"}} props */
export function Icon({ name, size = "m" }) {
  return html`<svg class=${`icon icon-${size}`} aria-hidden="true" focusable="false">
    <use href=${`console/icons.svg#${name}`} /></svg>`;
}
