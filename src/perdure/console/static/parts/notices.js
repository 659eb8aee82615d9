/** What was just said, in the corner. */

import { html } from "../dom.js";
import { dismiss, notices } from "../store.js";
import { Icon } from "./icon.js";

export function Notices() {
  return html`<div class="notices" role="status" aria-live="polite">
    ${notices.value.map(
      ({ id, text, tone }) => html`<div key=${id} class=${`notice notice-${tone}`}>
      <span>${text}</span>
      <button type="button" class="button quiet small" aria-label="Dismiss" onClick=${() => dismiss(id)}>
        <${Icon} name="close" size="s" /></button>
    </div>`,
    )}
  </div>`;
}
