/** Dialogs: one at a time, modal, closed by Escape or a click beside it. */

import { html, signal, useEffect, useRef, useState } from "../dom.js";
import { Icon } from "./icon.js";

const current = signal(null);

/**
 * Open a dialog. What `view` returns is shown in it; it gets `close`.
 * @param {{title: string, view: (close: () => void) => any, wide?: boolean}} dialog
 */
export function openDialog(dialog) {
  current.value = dialog;
}

/**
 * Ask before something that cannot be taken back.
 * @param {{title: string, text: string, action: string, danger?: boolean, input?: string}} question input: label of a note to be taken
 * @param {(note: string) => unknown} onYes
 */
export function confirm(question, onYes) {
  openDialog({
    title: question.title,
    view: (close) => html`<${Question} ...${question} onYes=${onYes} close=${close} />`,
  });
}

function Question({ text, action, danger, input, onYes, close }) {
  const [note, setNote] = useState("");
  const submit = (event) => {
    event.preventDefault();
    close();
    onYes(note);
  };
  return html`<form onSubmit=${submit} class="stack">
    <p class="muted">${text}</p>
    ${
      input &&
      html`<label class="field"><span class="label">${input}</span>
      <input class="input" value=${note} onInput=${(event) => setNote(event.target.value)} autofocus /></label>`
    }
    <footer class="dialog-foot">
      <button type="button" class="button" onClick=${close}>Keep as it is</button>
      <button class=${danger ? "button danger" : "button primary"}>${action}</button>
    </footer>
  </form>`;
}

/** Where the open dialog is shown; stands once in the shell. */
export function DialogHost() {
  const dialog = current.value;
  return dialog && html`<${Modal} key=${dialog.title} ...${dialog} />`;
}

function Modal({ title, view, wide }) {
  const ref = useRef(null);
  const close = () => {
    current.value = null;
  };
  useEffect(() => {
    const before = document.activeElement;
    ref.current.showModal();
    return () => before?.focus?.();
  }, []);
  const clickBeside = (event) => event.target === ref.current && close();
  return html`<dialog ref=${ref} class=${wide ? "dialog wide" : "dialog"} aria-label=${title} onClose=${close}
    onMouseDown=${clickBeside}>
    <div class="dialog-body">
      <header class="dialog-head"><h2>${title}</h2>
        <button type="button" class="button quiet small" onClick=${close} aria-label="Close"><${Icon} name="close" />
          </button></header>
      ${view(close)}
    </div>
  </dialog>`;
}
