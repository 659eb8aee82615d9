/** The keys, on one sheet. */

import { html } from "../dom.js";
import { openDialog } from "./dialog.js";

const KEYS = [
  [
    "Anywhere",
    [
      ["⌘ K", "go to anything"],
      ["g h", "Home"],
      ["g i", "Inbox"],
      ["g r", "Runs"],
      ["g a", "Agents"],
      ["g s", "System"],
      ["/", "search"],
      ["?", "this sheet"],
    ],
  ],
  [
    "In lists",
    [
      ["j", "down"],
      ["k", "up"],
      ["enter", "open"],
      ["x", "choose a run"],
    ],
  ],
  [
    "On a run",
    [
      ["f", "fork"],
      ["p", "pause or resume"],
      ["1 … 6", "tabs"],
      ["esc", "close the step"],
    ],
  ],
  [
    "In the inbox",
    [
      ["a", "approve"],
      ["r", "reject: first a note"],
      ["j k", "next, previous"],
    ],
  ],
];

/** Open the sheet. */
export function openHelp() {
  openDialog({
    title: "Keyboard",
    view: () => html`<div class="help">
    ${KEYS.map(
      ([group, keys]) =>
        html`<section><h3>${group}</h3><dl>${keys.map(
          ([key, what]) => html`<div>
      <dt>${key.split(" ").map((one) => html`<kbd>${one}</kbd>`)}</dt><dd>${what}</dd></div>`,
        )}</dl></section>`,
    )}
  </div>`,
  });
}
