/** The frame of a screen: its head, its tabs, what it says when there is nothing or something is wrong. */

import { html, names, useEffect } from "../dom.js";
import { changes } from "../store.js";
import { Icon } from "./icon.js";

/** @param {{title: string, lead?: any, actions?: any, children?: any, narrow?: boolean}} props */
export function Page({ title, lead, actions, children, narrow }) {
  useTitle(title);
  return html`<div class=${narrow ? "page narrow" : "page"}>
    <header class="page-head">
      <div><h1>${title}</h1>${lead && html`<p class="lead">${lead}</p>`}</div>
      ${actions && html`<div class="page-actions">${actions}</div>`}
    </header>
    ${children}
  </div>`;
}

/** Say in the tab's title where we are, and how many people are waited for. */
export function useTitle(title) {
  const { asks } = changes.value;
  useEffect(() => {
    document.title = `${asks ? `(${asks}) ` : ""}${title} · Perdure`;
  }, [title, asks]);
}

/** @param {{title: string, more?: any, children?: any}} props */
export function Section({ title, more, children }) {
  return html`<section class="section"><header class="section-head"><h2>${title}</h2>${more}</header>${children}</section>`;
}

/** @param {{tabs: {id: string, label: string, href: string, count?: number | null}[], current: string}} props */
export function Tabs({ tabs, current }) {
  return html`<nav class="tabs" aria-label="Views">
    ${tabs.map(
      ({
        id,
        label,
        href,
        count,
      }) => html`<a key=${id} class=${names("tab", { on: id === current })} href=${href}
        aria-current=${id === current ? "page" : null}>
      ${label}${count ? html`<span class="count">${count.toLocaleString("en")}</span>` : null}</a>`,
    )}
  </nav>`;
}

/** @param {{icon?: string, title: string, children?: any}} props */
export function Empty({ icon = "leaf", title, children }) {
  return html`<div class="empty"><${Icon} name=${icon} size="l" />
    <h2>${title}</h2>${children && html`<div class="muted">${children}</div>`}</div>`;
}

/** @param {{problem: Error, retry?: () => void}} props */
export function Trouble({ problem, retry }) {
  return html`<div class="trouble" role="alert"><${Icon} name="alert" /><div><strong>${problem.name}</strong>
    <p>${problem.message}</p></div>
    ${retry && html`<button type="button" class="button small" onClick=${retry}>Try again</button>`}</div>`;
}

/** What a view shows before its data is there: nothing for a moment, so that quick answers do not flicker. */
export function Loading() {
  return html`<div class="loading" aria-busy="true"><span class="visually-hidden">Loading</span></div>`;
}

/** One of: what went wrong, that it loads, or the view of the data. */
export function Loaded({ of: { data, problem, reload }, view }) {
  if (data === null) return problem ? html`<${Trouble} problem=${problem} retry=${reload} />` : html`<${Loading} />`;
  return view(data);
}
