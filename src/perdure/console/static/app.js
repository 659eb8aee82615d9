/** The console: a rail, a screen for each address, and what is always there (palette, keys, notices). */

import { html, names, render } from "./dom.js";
import { useKeys } from "./keys.js";
import { go, link, route } from "./router.js";
import { changes, connect, connection, logOut, loginNeeded, me, theme } from "./store.js";
import { DialogHost } from "./parts/dialog.js";
import { openHelp } from "./parts/help.js";
import { Icon } from "./parts/icon.js";
import { Notices } from "./parts/notices.js";
import { Empty, Loading, Page } from "./parts/page.js";
import { openPalette } from "./parts/palette.js";
import { AgentScreen, AgentsScreen } from "./screens/agents.js";
import { CompareScreen } from "./screens/compare.js";
import { HomeScreen } from "./screens/home.js";
import { InboxScreen } from "./screens/inbox.js";
import { LoginScreen } from "./screens/login.js";
import { RunScreen } from "./screens/run.js";
import { RunsScreen } from "./screens/runs.js";
import { SessionScreen, SessionsScreen } from "./screens/sessions.js";
import { SystemScreen } from "./screens/system.js";

const RAIL = [
  { id: "", label: "Home", icon: "home" },
  { id: "inbox", label: "Inbox", icon: "inbox" },
  { id: "runs", label: "Runs", icon: "runs" },
  { id: "agents", label: "Agents", icon: "agent" },
  { id: "sessions", label: "Sessions", icon: "session" },
  { id: "system", label: "System", icon: "system" },
];

function App() {
  useKeys({
    "g h": () => go(link("")),
    "g i": () => go(link("inbox")),
    "g r": () => go(link("runs")),
    "g a": () => go(link("agents")),
    "g s": () => go(link("system")),
    "?": openHelp,
    "/": openPalette,
    "mod+k": openPalette,
  });
  if (loginNeeded.value || route.value.parts[0] === "login") return html`<${LoginScreen} /><${Notices} />`;
  return html`<div class="shell">
    <a class="skip" href="#main" onClick=${skip}>Skip to the content</a>
    <${Rail} />
    <main id="main" class="main" tabindex="-1">${me.value ? html`<${Screen} />` : html`<${Waiting} />`}</main>
    <${Notices} /><${DialogHost} />
  </div>`;
}

function Screen() {
  const { parts } = route.value;
  const [screen, one, two] = parts;
  switch (screen) {
    case undefined:
      return html`<${HomeScreen} />`;
    case "runs":
      return one ? html`<${RunScreen} key=${one} id=${one} tab=${two ?? "story"} />` : html`<${RunsScreen} />`;
    case "inbox":
      return html`<${InboxScreen} chosen=${one} />`;
    case "compare":
      return html`<${CompareScreen} />`;
    case "agents":
      return one ? html`<${AgentScreen} key=${one} name=${one} tab=${two ?? "start"} />` : html`<${AgentsScreen} />`;
    case "sessions":
      return two
        ? html`<${SessionScreen} key=${`${one}/${two}`} agent=${one} session=${two} />`
        : html`<${SessionsScreen} />`;
    case "system":
      return html`<${SystemScreen} tab=${one ?? "health"} />`;
    default:
      return html`<${Page} title="Nothing here">
      <${Empty} title="There is no such page">The address may be cut off. <a href=${link("")}>Go home</a><//><//>`;
  }
}

function Rail() {
  const here = route.value.parts[0] ?? "";
  const { asks } = changes.value;
  return html`<nav class="rail" aria-label="Main">
    <a class="brand" href=${link("")}><img src="console/favicon.svg" alt="" width="22" height="22" /><span>Perdure</span>
      ${me.value?.mode === "dev" && html`<span class="badge-dev" title="perdure dev: for your own machine">DEV</span>`}</a>
    <button type="button" class="rail-search" onClick=${openPalette}><${Icon} name="search" /><span>Search</span>
      <kbd>⌘K</kbd></button>
    <ul class="rail-items">${RAIL.map(
      ({ id, label, icon }) => html`<li key=${id}>
      <a class=${names("rail-item", { on: here === id })} href=${link(id)} aria-current=${here === id ? "page" : null}>
        <${Icon} name=${icon} /><span class="rail-label">${label}</span>
          ${id === "inbox" && asks ? html`<span class="badge" aria-label=${`${asks} open`}>${asks}</span>` : null}</a>
          </li>`,
    )}
    </ul>
    <footer class="rail-foot">
      <${Connection} />
      <div class="rail-tools">
        <${ThemeButton} />
        <button type="button" class="button quiet small" onClick=${openHelp} aria-label="Keyboard help"
          title="Keyboard (?)"><${Icon} name="keyboard" /></button>
        ${me.value && me.value.mode !== "dev" && html`<button type="button" class="button quiet small" onClick=${logOut}
          aria-label=${`Log out ${me.value.name}`} title=${`Log out ${me.value.name}`}><${Icon} name="exit" /></button>`}
      </div>
    </footer>
  </nav>`;
}

function Connection() {
  const state = connection.value;
  const words = {
    open: me.value?.version ? `Live · ${me.value.version}` : "Live",
    connecting: "Connecting…",
    lost: "Reconnecting…",
  }[state];
  return html`<p class=${`connection connection-${state}`} role="status"><i class="dot" />${words}</p>`;
}

const THEMES = {
  system: ["light", "half", "System theme"],
  light: ["dark", "sun", "Light theme"],
  dark: ["system", "moon", "Dark theme"],
};

function ThemeButton() {
  const [next, icon, label] = THEMES[theme.value];
  const turn = () => {
    theme.value = next;
  };
  return html`<button type="button" class="button quiet small" onClick=${turn} aria-label=${label} title=${label}>
    <${Icon} name=${icon} /></button>`;
}

function Waiting() {
  if (connection.value !== "lost") return html`<${Loading} />`;
  return html`<${Page} title="Perdure"><${Empty} icon="alert" title="The server does not answer">
    Start it again with <code>perdure dev FILE.py</code>; this page comes back by itself.<//><//>`;
}

function skip(event) {
  event.preventDefault(); // the hash is an address here
  document.getElementById("main").focus();
}

render(html`<${App} />`, document.getElementById("app"));
if (route.value.parts[0] !== "login") connect();
