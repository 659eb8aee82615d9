/** A form generated from a JSON Schema, with the JSON itself always one click away. */

import { html, names, useEffect, useId, useState } from "../dom.js";
import { controlOf, firstValue, join, resolve } from "../schema.js";
import { pretty } from "../text.js";
import { Icon } from "./icon.js";

/**
 * @param {object} props
 * @param {object} props.schema
 * @param {any} props.value
 * @param {(value: any) => void} props.onChange gets undefined for what is not (yet) JSON
 * @param {Record<string, string>} [props.problems] by path, see `validate`
 */
export function SchemaForm({ schema, value, onChange, problems = {} }) {
  const [asJson, setAsJson] = useState(false);
  const simple = controlOf(resolve(schema, schema)) !== "json";
  return html`<div class="form">
    ${
      simple &&
      html`<div class="form-mode"><div class="segmented" role="group" aria-label="Edit as">
      <button type="button" aria-pressed=${!asJson} onClick=${() => setAsJson(false)}>Form</button>
      <button type="button" aria-pressed=${asJson} onClick=${() => setAsJson(true)}>JSON</button>
    </div></div>`
    }
    ${
      asJson || !simple
        ? html`<${JsonInput} label="JSON" value=${value} onChange=${onChange} rows=${8} problem=${problems[""]} />`
        : html`<${Field} schema=${schema} root=${schema} path="" value=${value} onChange=${onChange}
          problems=${problems} top />`
    }
  </div>`;
}

/** A text area that holds JSON; tells when it does not. */
export function JsonInput({ label, value, onChange, rows = 4, problem, hint }) {
  const id = useId();
  const [text, setText] = useState(pretty(value) ?? "");
  const [wrong, setWrong] = useState("");
  const [given, setGiven] = useState(value);
  useEffect(() => {
    if (JSON.stringify(value) !== JSON.stringify(given) && !wrong) {
      setText(pretty(value) ?? "");
      setGiven(value);
    }
  }, [value]);
  const input = (event) => {
    setText(event.target.value);
    try {
      const parsed = event.target.value.trim() === "" ? undefined : JSON.parse(event.target.value);
      setWrong("");
      setGiven(parsed);
      onChange(parsed);
    } catch (error) {
      setWrong(`not JSON: ${error.message}`);
      onChange(undefined);
    }
  };
  const said = wrong || (problem ?? "");
  return html`<div class="field">
    <label class="label" for=${id}>${label}</label>
    <textarea id=${id} class=${names("input mono", { wrong: said })} rows=${rows} spellcheck=${false} value=${text}
      onInput=${input}
      aria-invalid=${Boolean(said)} aria-describedby=${said ? `${id}-said` : null} />
    ${hint && html`<p class="hint">${hint}</p>`}
    ${said && html`<p class="wrong-text" id=${`${id}-said`}>${said}</p>`}
  </div>`;
}

function Field({ schema, root, path, value, onChange, problems, name, required = true, top = false }) {
  const found = resolve(schema, root);
  const label = labelOf(found, name);
  const props = { found, root, path, value, onChange, problems, label, required };
  if (found.nullable) return html`<${Nullable} ...${props} inner=${{ ...found, nullable: false }} />`;
  const control = controlOf(found);
  if (control === "object") return html`<${ObjectFields} ...${props} top=${top} />`;
  if (control === "array") return html`<${ArrayFields} ...${props} />`;
  if (control === "boolean") return html`<${Check} ...${props} />`;
  if (control === "json")
    return html`<${JsonInput} label=${label} value=${value} onChange=${onChange} problem=${problems[path]}
      hint=${found.description} />`;
  return html`<${Single} ...${props} control=${control} />`;
}

function ObjectFields({ found, root, path, value, onChange, problems, label, top }) {
  const known = value && typeof value === "object" ? value : {};
  const fields = Object.entries(found.properties).map(
    ([name, part]) => html`<${Field} key=${name} schema=${part} root=${root}
    path=${join(path, name)} name=${name} value=${known[name]} problems=${problems} required=${found.required?.includes(name) ?? false}
    onChange=${(changed) => onChange(withField(known, name, changed))} />`,
  );
  if (top)
    return html`<div class="fieldset-top">${fields.length ? fields : html`<p class="muted">Takes nothing.</p>`}
    </div>`;
  return html`<fieldset class="fieldset"><legend class="label">${label}</legend>${fields}</fieldset>`;
}

function ArrayFields({ found, root, path, value, onChange, problems, label }) {
  const items = Array.isArray(value) ? value : [];
  const replace = (index, item) => onChange(items.map((known, place) => (place === index ? item : known)));
  return html`<fieldset class="fieldset"><legend class="label">${label}</legend>
    ${found.description && html`<p class="hint">${found.description}</p>`}
    ${items.map(
      (item, index) => html`<div class="array-item" key=${index}>
      <${Field} schema=${found.items} root=${root} path=${join(path, index)} name=${`${index + 1}`} value=${item}
        problems=${problems} onChange=${(changed) => replace(index, changed)} />
      <button type="button" class="button quiet small" aria-label=${`Remove ${label} ${index + 1}`}
        onClick=${() => onChange(items.filter((_, place) => place !== index))}><${Icon} name="close" size="s" /></button>
    </div>`,
    )}
    ${problems[path] && html`<p class="wrong-text">${label} ${problems[path]}</p>`}
    <button type="button" class="button small" onClick=${() => onChange([...items, firstValue(found.items, root)])}>
      <${Icon} name="plus" size="s" />Add</button>
  </fieldset>`;
}

function Nullable({ inner, root, path, value, onChange, problems, label }) {
  const set = value !== null && value !== undefined;
  const start = () => onChange(firstValue({ ...inner, default: undefined }, root) ?? blank(inner));
  return html`<div class="nullable">
    <label class="check"><input type="checkbox" checked=${set}
      onChange=${(event) => (event.target.checked ? start() : onChange(null))} />
      <span>${label} <span class="muted">${set ? "" : "(none)"}</span></span></label>
    ${set && html`<${Field} schema=${inner} root=${root} path=${path} name=${label} value=${value} onChange=${onChange}
      problems=${problems} />`}
  </div>`;
}

function Check({ found, path, value, onChange, problems, label }) {
  return html`<div class="field"><label class="check">
    <input type="checkbox" checked=${value === true} onChange=${(event) => onChange(event.target.checked)} />
      <span>${label}</span></label>
    ${found.description && html`<p class="hint">${found.description}</p>`}
    ${problems[path] && html`<p class="wrong-text">${label} ${problems[path]}</p>`}
  </div>`;
}

function Single({ found, path, value, onChange, problems, label, required, control }) {
  const id = useId();
  const problem = problems[path];
  const props = {
    id,
    class: names("input", { wrong: problem }),
    "aria-invalid": Boolean(problem),
    "aria-describedby": problem ? `${id}-said` : null,
    required,
    name: path,
  };
  return html`<div class="field">
    <label class="label" for=${id}>${label}${!required && html`<span class="muted"> optional</span>`}</label>
    <${Control} control=${control} found=${found} value=${value} onChange=${onChange} props=${props} />
    ${found.description && html`<p class="hint">${found.description}</p>`}
    ${problem && html`<p class="wrong-text" id=${`${id}-said`}>${label} ${problem}</p>`}
  </div>`;
}

function Control({ control, found, value, onChange, props }) {
  const text = value === undefined || value === null ? "" : String(value);
  const given = (event) => onChange(event.target.value === "" && !props.required ? undefined : event.target.value);
  switch (control) {
    case "const":
      return html`<input ...${props} value=${text} readonly />`;
    case "enum":
      return html`<select ...${props} onChange=${(event) => onChange(found.enum[event.target.selectedIndex - 1])}>
        <option value="" selected=${value === undefined}>Choose…</option>
        ${found.enum.map((one) => html`<option key=${one} selected=${one === value}>${String(one)}</option>`)}
      </select>`;
    case "number":
    case "integer":
      return html`<input ...${props} type="number" inputmode=${control === "integer" ? "numeric" : "decimal"}
        step=${control === "integer" ? 1 : "any"}
        min=${found.minimum} max=${found.maximum} value=${text} onInput=${(event) => onChange(event.target.value === "" ? undefined : event.target.valueAsNumber)} />`;
    case "decimal":
      return html`<input ...${props} inputmode="decimal" value=${text}
        onInput=${(event) => onChange(typeof value === "number" ? numberOr(event.target.value) : event.target.value)} />`;
    case "text":
      return html`<textarea ...${props} rows="4" value=${text} onInput=${given} />`;
    default:
      return html`<input ...${props} type=${INPUT_TYPES[found.format] ?? "text"} value=${text} onInput=${given} />`;
  }
}

const INPUT_TYPES = { date: "date", email: "email", uri: "url", password: "password" };
const blank = (schema) => ({ string: "", text: "", number: 0, integer: 0, decimal: "0" })[controlOf(schema)] ?? {};
const numberOr = (text) => (text !== "" && Number.isFinite(Number(text)) ? Number(text) : text);

function withField(value, name, changed) {
  if (changed !== undefined) return { ...value, [name]: changed };
  const { [name]: _, ...rest } = value;
  return rest;
}

function labelOf(schema, name) {
  if (name === undefined) return schema.title ?? "Value";
  return /^\d+$/.test(name) ? `No. ${name}` : name.replaceAll("_", " ");
}
