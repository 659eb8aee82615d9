/** JSON Schema as far as forms need it: references resolved, a first value, what is wrong with a value. */

/**
 * A schema with `$ref` and lone `allOf` followed, and null taken out: `{...schema, nullable}`.
 * @param {object} schema
 * @param {object} root where `$defs` are
 */
export function resolve(schema, root) {
  let found = schema ?? {};
  for (let depth = 0; depth < 20; depth += 1) {
    const target = found.$ref ? lookUp(found.$ref, root) : found.allOf?.length === 1 ? found.allOf[0] : null;
    if (!target) break;
    const { $ref, allOf, ...rest } = found;
    found = { ...target, ...rest };
  }
  const variants = found.anyOf ?? found.oneOf;
  if (variants) {
    const { anyOf, oneOf, ...rest } = found;
    const real = variants.filter((variant) => resolve(variant, root).type !== "null");
    const nullable = real.length < variants.length;
    if (real.length === 1) return { ...resolve(real[0], root), ...rest, nullable };
    return { ...rest, variants: real.map((variant) => resolve(variant, root)), nullable };
  }
  if (Array.isArray(found.type)) {
    const real = found.type.filter((type) => type !== "null");
    const nullable = real.length < found.type.length;
    if (real.length === 1) return { ...found, type: real[0], nullable };
    return { ...found, type: undefined, variants: real.map((type) => ({ type })), nullable };
  }
  return found;
}

/**
 * Which control a resolved schema gets.
 * @returns {"enum" | "const" | "boolean" | "number" | "integer" | "decimal" | "string" | "text" | "object" | "array" | "json"}
 */
export function controlOf(schema) {
  if ("const" in schema) return "const";
  if (schema.enum) return "enum";
  if (schema.variants) return isDecimal(schema) ? "decimal" : "json";
  if (schema.type === "object" || schema.properties) return schema.properties ? "object" : "json";
  if (schema.type === "array") return schema.items && !schema.prefixItems ? "array" : "json";
  if (schema.type === "string") return isLong(schema) ? "text" : "string";
  return ["boolean", "number", "integer"].includes(schema.type) ? schema.type : "json";
}

/**
 * The value that a form begins with: defaults, and the least that is allowed.
 * @param {object} schema
 * @param {object} [root]
 */
export function firstValue(schema, root = schema) {
  const found = resolve(schema, root);
  if ("default" in found) return structuredClone(found.default);
  if (found.nullable) return null;
  switch (controlOf(found)) {
    case "const":
      return found.const;
    case "enum":
      return found.enum.length === 1 ? found.enum[0] : undefined;
    case "boolean":
      return false;
    case "array":
      return found.minItems ? Array.from({ length: found.minItems }, () => firstValue(found.items, root)) : [];
    case "object":
      return Object.fromEntries(
        Object.entries(found.properties)
          .map(([name, part]) => [name, firstValue(part, root)])
          .filter(([name, value]) => value !== undefined || found.required?.includes(name)),
      );
    case "json":
      return found.type === "object" ? {} : found.type === "array" ? [] : undefined;
    default:
      return undefined;
  }
}

/**
 * A value to show in an example: like `firstValue`, with nothing left open.
 * @param {object} schema
 * @param {object} [root]
 */
export function exampleOf(schema, root = schema) {
  const found = resolve(schema, root);
  if (found.examples?.length) return found.examples[0];
  if ("default" in found && found.default !== null) return found.default;
  switch (controlOf(found)) {
    case "const":
      return found.const;
    case "enum":
      return found.enum[0];
    case "boolean":
      return true;
    case "integer":
      return found.minimum ?? 1;
    case "number":
      return found.minimum ?? 1.5;
    case "decimal":
      return "19.90";
    case "array":
      return [exampleOf(found.items, root)];
    case "object": {
      const wanted = found.required ?? Object.keys(found.properties);
      return Object.fromEntries(wanted.map((name) => [name, exampleOf(found.properties[name] ?? {}, root)]));
    }
    case "json":
      return found.type === "array" ? [] : {};
    default:
      return EXAMPLES[found.format] ?? "text";
  }
}

/**
 * What is wrong with a value: messages by path (`items.0.name`), empty when it fits.
 * The server has the last word; this catches what can be said at once.
 * @returns {Record<string, string>}
 */
export function validate(schema, value, root = schema, path = "", problems = {}) {
  const found = resolve(schema, root);
  const say = (text) => {
    problems[path] ??= text;
  };
  if (value === undefined) say("is needed");
  else if (value === null) found.nullable || found.type === "null" || isAnything(found) || say("is needed");
  else if (found.variants) found.variants.some((variant) => isEmpty(validate(variant, value, root))) || say("does not fit");
  else checkValue(found, value, root, path, problems, say);
  return problems;
}

const EXAMPLES = {
  date: "2026-01-31",
  "date-time": "2026-01-31T12:00:00Z",
  email: "ada@example.com",
  uri: "https://example.com",
};
const isEmpty = (problems) => Object.keys(problems).length === 0;
const isAnything = (schema) => !schema.type && !schema.enum && !("const" in schema) && !schema.properties;
const isLong = (schema) => schema.format === "multiline" || (schema.maxLength ?? 0) > 200;

/** What pydantic makes of a Decimal: a number, or a string of digits. */
const isDecimal = ({ variants }) =>
  variants.length === 2 && ["number", "string"].every((type) => variants.some((variant) => variant.type === type));

function lookUp(reference, root) {
  if (!reference.startsWith("#/")) return {};
  return (
    reference
      .slice(2)
      .split("/")
      .reduce((part, name) => part?.[name.replaceAll("~1", "/").replaceAll("~0", "~")], root) ?? {}
  );
}

function checkValue(schema, value, root, path, problems, say) {
  const types = { string: "string", boolean: "boolean", number: "number", integer: "number" };
  if (schema.enum && !schema.enum.some((one) => same(one, value))) say(`must be one of ${schema.enum.join(", ")}`);
  if (types[schema.type] && typeof value !== types[schema.type])
    say(`must be ${schema.type === "integer" ? "a whole number" : `a ${schema.type}`}`);
  else if (typeof value === "number") checkNumber(schema, value, say);
  else if (typeof value === "string") checkString(schema, value, say);
  else if (schema.type === "array") checkArray(schema, value, root, path, problems, say);
  else if (schema.type === "object" || schema.properties) checkObject(schema, value, root, path, problems, say);
}

function checkNumber(schema, value, say) {
  if (schema.type === "integer" && !Number.isInteger(value)) say("must be a whole number");
  if (value < schema.minimum) say(`must be at least ${schema.minimum}`);
  if (value > schema.maximum) say(`must be at most ${schema.maximum}`);
  if (value <= schema.exclusiveMinimum) say(`must be more than ${schema.exclusiveMinimum}`);
  if (value >= schema.exclusiveMaximum) say(`must be less than ${schema.exclusiveMaximum}`);
}

function checkString(schema, value, say) {
  if (value.length < schema.minLength)
    say(schema.minLength === 1 ? "is needed" : `needs ${schema.minLength} characters or more`);
  if (value.length > schema.maxLength) say(`may have ${schema.maxLength} characters`);
  if (schema.pattern && !matches(schema.pattern, value)) say(`must look like ${schema.pattern}`);
}

function checkArray(schema, value, root, path, problems, say) {
  if (!Array.isArray(value)) say("must be a list");
  else if (value.length < schema.minItems) say(`needs ${schema.minItems} or more`);
  else if (value.length > schema.maxItems) say(`may have ${schema.maxItems}`);
  else value.forEach((item, index) => validate(schema.items ?? {}, item, root, join(path, index), problems));
}

function checkObject(schema, value, root, path, problems, say) {
  if (typeof value !== "object" || Array.isArray(value)) {
    say("must be an object");
    return;
  }
  for (const name of schema.required ?? []) if (value[name] === undefined) problems[join(path, name)] = "is needed";
  for (const [name, part] of Object.entries(schema.properties ?? {})) {
    if (value[name] !== undefined) validate(part, value[name], root, join(path, name), problems);
  }
}

function matches(pattern, value) {
  try {
    return new RegExp(pattern, "u").test(value);
  } catch {
    return true; // a pattern of another dialect: the server checks it
  }
}

export const join = (path, name) => (path === "" ? String(name) : `${path}.${name}`);
export const same = (left, right) => JSON.stringify(left) === JSON.stringify(right);
