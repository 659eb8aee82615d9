/** The palette (ctrl or cmd and K): go anywhere, by a few letters. */

import { at, get } from "../api.js";
import { html, names, useEffect, useMemo, useRef, useState } from "../dom.js";
import { go, link } from "../router.js";
import { theme } from "../store.js";
import { openDialog } from "./dialog.js";
import { actionsFor } from "./actions.js";
import { Icon } from "./icon.js";
import { StatusPill } from "./status.js";

const SHOWN = 12;

/** Open the palette. */
export function openPalette() {
  openDialog({ title: "Go to", view: (close) => html`<${Palette} close=${close} />` });
}

function Palette({ close }) {
  const [text, setText] = useState("");
  const [chosen, setChosen] = useState(0);
  const known = useKnown();
  const direct = useDirect(text);
  const found = useMemo(() => search([...direct, ...PLACES, ...known], text).slice(0, SHOWN), [text, known, direct]);
  const list = useRef(null);

  const pick = (entry) => {
    close();
    entry.call();
  };
  const onKey = (event) => {
    const by = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (by) setChosen(Math.min(found.length - 1, Math.max(0, chosen + by)));
    else if (event.key === "Enter" && found[chosen]) pick(found[chosen]);
    else return;
    event.preventDefault();
  };
  useEffect(() => list.current?.querySelector("[aria-selected=true]")?.scrollIntoView({ block: "nearest" }), [chosen]);

  return html`<div class="palette">
    <input class="input" autofocus placeholder="Run id, agent, session, screen…" aria-label="Search" role="combobox"
      aria-expanded="true" aria-controls="palette-list"
      aria-activedescendant=${found[chosen] ? `palette-${chosen}` : null} value=${text} onKeyDown=${onKey}
      onInput=${(event) => {
        setText(event.target.value);
        setChosen(0);
      }} />
    <ul class="palette-list" id="palette-list" role="listbox" aria-label="Places" ref=${list}>
      ${found.map(
        (
          entry,
          index,
        ) => html`<li key=${entry.label + entry.hint} id=${`palette-${index}`} role="option"
          aria-selected=${index === chosen}
        class=${names("palette-entry", { on: index === chosen })} onClick=${() => pick(entry)} onMouseMove=${() => setChosen(index)}>
        <${Icon} name=${entry.icon} /><span>${entry.label}</span>
          <span class="palette-hint">${entry.status ? html`<${StatusPill} status=${entry.status} />` : entry.hint}</span>
          </li>`,
      )}
    </ul>
    ${found.length === 0 && html`<p
      class="muted palette-none">Nothing like that among screens, agents and the newest runs. A whole run id always works.</p>`}
  </div>`;
}

const place = (label, icon, path, hint = "") => ({ label, icon, hint, words: label, call: () => go(link(path)) });

const PLACES = [
  place("Home", "home", "", "g h"),
  place("Inbox", "inbox", "inbox", "g i"),
  place("Runs", "runs", "runs", "g r"),
  place("Failed runs", "alert", "runs?status=failed"),
  place("Waiting runs", "clock", "runs?status=waiting"),
  place("Agents", "agent", "agents", "g a"),
  place("Sessions", "session", "sessions"),
  place("System", "system", "system", "g s"),
  place("Schedules", "clock", "system/schedules"),
  place("Compare two runs", "compare", "compare"),
  {
    label: "Light theme",
    icon: "sun",
    hint: "",
    words: "light theme",
    call: () => {
      theme.value = "light";
    },
  },
  {
    label: "Dark theme",
    icon: "moon",
    hint: "",
    words: "dark theme",
    call: () => {
      theme.value = "dark";
    },
  },
];

/** Agents and the newest runs. */
function useKnown() {
  const [known, setKnown] = useState([]);
  useEffect(() => {
    Promise.all([get("v1/agents"), get("v1/runs", { limit: 200 })]).then(
      ([agents, runs]) =>
        setKnown([
          ...agents.items.map(({ name }) => ({
            ...place(name, "agent", ["agents", name], "agent"),
            words: `agent ${name}`,
          })),
          ...runs.items.map(runEntry),
        ]),
      () => {},
    );
  }, []);
  return known;
}

/** The run or ask whose id was typed, and what can be done to it. */
function useDirect(text) {
  const [entries, setEntries] = useState([]);
  const id = text.trim();
  useEffect(() => {
    setEntries([]);
    if (!/^run_\w{8,}$/.test(id)) return undefined;
    const abort = new AbortController();
    get(at("runs", id), {}, abort.signal).then(
      (run) =>
        setEntries([
          runEntry(run),
          ...actionsFor(run).map(({ label, icon, call }) => ({
            label: `${label} ${run.id}`,
            icon,
            hint: "",
            words: id,
            call,
          })),
        ]),
      () => {},
    );
    return () => abort.abort();
  }, [id]);
  return entries;
}

const runEntry = (run) => ({
  label: `${run.agent}${run.session ? ` / ${run.session}` : ""} ${run.id}`,
  icon: "runs",
  hint: run.status,
  status: run.status,
  words: `${run.id} ${run.agent} ${run.session ?? ""} ${run.status}`,
  call: () => go(link(["runs", run.id])),
});

function search(entries, text) {
  const wanted = text.toLowerCase().split(/\s+/).filter(Boolean);
  const seen = new Set();
  return entries.filter(({ words, label }) => {
    const fits = wanted.every((word) => words.toLowerCase().includes(word)) && !seen.has(label);
    seen.add(label);
    return fits;
  });
}
