/** Who are you? Once for each browser. */

import { html, useEffect, useState } from "../dom.js";
import { go, link, route } from "../router.js";
import { connect, logIn, me } from "../store.js";
import { Trouble, useTitle } from "../parts/page.js";

export function LoginScreen() {
  const [code, setCode] = useState("");
  const [problem, setProblem] = useState(null);
  useTitle("Log in");
  const enter = async (given) => {
    try {
      await logIn(given.trim());
    } catch (refused) {
      setProblem(refused);
      await connect(); // a code that was used up may have been used here
    }
    if (me.value && route.value.parts[0] === "login") go(link(""), { replace: true });
  };
  // `perdure dev` opens the page with a code in the hash, which no server and no proxy log ever sees.
  const given = route.value.query.get("code");
  useEffect(() => {
    if (given) enter(given);
  }, [given]);
  const submit = (event) => {
    event.preventDefault();
    enter(code);
  };
  return html`<main class="login"><form class="login-card stack" onSubmit=${submit}>
    <img src="console/favicon.svg" alt="" width="40" height="40" />
    <div><h1>Log in to Perdure</h1><p class="muted">With a login code, which works once, or with an API key.</p></div>
    ${problem && html`<${Trouble} problem=${problem} />`}
    <label class="field"><span class="label">Code or key</span>
      <input class="input mono" type="password" autocomplete="current-password" required autofocus value=${code}
        onInput=${(event) => setCode(event.target.value)} /></label>
    <button class="button primary wide">Log in</button>
    <p class="hint">Get a code on the machine that serves this page:</p>
    <pre class="snippet"><code>perdure key login-code</code></pre>
  </form></main>`;
}
