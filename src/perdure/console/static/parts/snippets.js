/** Lines to copy: the same start in curl, Python and on the command line. */

import { url } from "../api.js";
import { html, useState } from "../dom.js";
import { exampleOf, validate } from "../schema.js";
import { Copy } from "./copy.js";

/**
 * @param {object} props
 * @param {{name: string, input_schema: object}} props.agent
 * @param {any} [props.input] what a form holds now; where that does not fit, an example of the schema
 */
export function Snippets({ agent, input }) {
  const schema = agent.input_schema ?? {};
  const fits = input !== undefined && Object.keys(validate(schema, input)).length === 0;
  const given = fits ? input : exampleOf(schema);
  const made = snippetsFor(agent, given);
  const [shown, setShown] = useState(Object.keys(made)[0]);
  return html`<div class="snippets">
    <div class="snippets-head"><div class="segmented" role="group" aria-label="Language">
      ${Object.keys(made).map((name) => html`<button type="button" key=${name} aria-pressed=${name === shown}
        onClick=${() => setShown(name)}>${name}</button>`)}
    </div><${Copy} text=${made[shown]} label="Copy snippet" /></div>
    <pre class="snippet" tabindex="0"><code>${made[shown]}</code></pre>
  </div>`;
}

/** @returns {Record<string, string>} */
function snippetsFor(agent, input) {
  const root = url("").replace(/\/$/, "");
  const body = JSON.stringify(input);
  const runs = `${root}/v1/agents/${encodeURIComponent(agent.name)}/runs`;
  const quoted = quote(body);
  return {
    curl: `curl -X POST '${runs}?wait=30' \\\n  -H "Authorization: Bearer $PERDURE_TOKEN" \\\n  -H 'Content-Type: application/json' \\\n  -d ${quoted}`,
    stream: `curl -N '${root}/v1/runs/RUN/events' \\\n  -H "Authorization: Bearer $PERDURE_TOKEN" \\\n  -H 'Accept: text/event-stream'`,
    Python: `import asyncio\nfrom perdure import Client\n\n\nasync def main() -> None:\n    async with Client("${root}") as client:  # its key: PERDURE_TOKEN\n        run = await client.start("${agent.name}", ${python(input)})\n        print(await run.result())\n\n\nasyncio.run(main())`,
    CLI: `perdure run ${agent.name} ${quoted} --server ${root}`,
  };
}

const quote = (text) => `'${text.replaceAll("'", `'\\''`)}'`;

/** A JSON value as Python writes it. */
function python(value) {
  if (value === null) return "None";
  if (typeof value === "boolean") return value ? "True" : "False";
  if (Array.isArray(value)) return `[${value.map(python).join(", ")}]`;
  if (typeof value === "object")
    return `{${Object.entries(value)
      .map(([name, item]) => `${JSON.stringify(name)}: ${python(item)}`)
      .join(", ")}}`;
  return JSON.stringify(value);
}
