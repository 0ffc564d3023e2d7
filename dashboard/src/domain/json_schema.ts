/** As much of JSON Schema as the schema of job files uses: types, ranges, lengths, patterns, words, lists and maps. */

export interface Schema {
  $defs?: Record<string, Schema>;
  $ref?: string;
  anyOf?: Schema[];
  type?: string;
  description?: string;
  default?: unknown;
  enum?: unknown[];
  minimum?: number;
  maximum?: number;
  minLength?: number;
  maxLength?: number;
  pattern?: string;
  items?: Schema;
  maxItems?: number;
  properties?: Record<string, Schema>;
  required?: string[];
  additionalProperties?: boolean | Schema;
  maxProperties?: number;
  propertyNames?: Schema;
}

/** pointer: JSON pointer to what is wrong; empty for the whole. */
export interface Finding {
  pointer: string;
  detail: string;
}

const MOST_FINDINGS = 64;
const figure = new Intl.NumberFormat("en", { maximumFractionDigits: 20 });

/** All that is wrong with a value, in the order of its fields; at most 64. */
export function findings(schema: Schema, value: unknown): Finding[] {
  return [...found(schema, schema, value, "")].slice(0, MOST_FINDINGS);
}

/** The part of a schema that describes the place a pointer names; null for a place it does not know. */
export function partAt(schema: Schema, pointer: string): Schema | null {
  let part: Schema | null = resolved(schema, schema);
  for (const step of pointer.split("/").slice(1)) {
    const inner: Schema | boolean | undefined = part?.properties?.[step] ?? part?.items ?? part?.additionalProperties;
    part = typeof inner === "object" ? resolved(schema, inner) : null;
  }
  return part;
}

function* found(root: Schema, given: Schema, value: unknown, at: string): Generator<Finding> {
  const schema = resolved(root, given, value);
  if (schema.enum && !schema.enum.includes(value)) {
    yield { pointer: at, detail: `one of ${schema.enum.filter((one) => one !== "").join(", ")} is expected` };
  } else if (schema.type && !isOf(schema.type, value)) yield { pointer: at, detail: `${TYPES[schema.type] ?? schema.type} is expected` };
  else if (typeof value === "number") yield* ofNumber(schema, value, at);
  else if (typeof value === "string") yield* ofText(schema, value, at);
  else if (Array.isArray(value)) yield* ofList(root, schema, value, at);
  else if (value !== null && typeof value === "object") yield* ofObject(root, schema, value as Record<string, unknown>, at);
}

/** Without references; of `anyOf`, which here only adds null, the part that fits. */
function resolved(root: Schema, schema: Schema, value?: unknown): Schema {
  if (schema.$ref) return resolved(root, root.$defs?.[schema.$ref.replace("#/$defs/", "")] ?? {}, value);
  if (!schema.anyOf) return schema;
  const wanted = schema.anyOf.find((part) => (part.type === "null") === (value === null)) ?? {};
  return resolved(root, wanted, value);
}

const TYPES: Record<string, string> = {
  integer: "a whole number", number: "a number", string: "text", boolean: "yes or no", array: "a list", object: "an object", null: "nothing",
};

function isOf(type: string, value: unknown): boolean {
  switch (type) {
    case "integer": return Number.isInteger(value);
    case "number": return typeof value === "number" && Number.isFinite(value);
    case "array": return Array.isArray(value);
    case "null": return value === null;
    case "object": return value !== null && typeof value === "object" && !Array.isArray(value);
    default: return typeof value === type;
  }
}

function* ofNumber({ minimum, maximum }: Schema, value: number, pointer: string): Generator<Finding> {
  if (minimum !== undefined && value < minimum) yield { pointer, detail: `at least ${figure.format(minimum)} is expected` };
  if (maximum !== undefined && value > maximum) yield { pointer, detail: `at most ${figure.format(maximum)} is expected` };
}

function* ofText({ minLength, maxLength, pattern }: Schema, value: string, pointer: string): Generator<Finding> {
  const length = [...value].length;
  if (minLength !== undefined && length < minLength) yield { pointer, detail: length === 0 ? "is required" : `at least ${minLength} characters are expected` };
  if (maxLength !== undefined && length > maxLength) yield { pointer, detail: `has ${figure.format(length)} characters, at most ${figure.format(maxLength)} are taken` };
  if (pattern !== undefined && !new RegExp(pattern, "u").test(value)) yield { pointer, detail: WORDS_OF_PATTERNS[pattern] ?? `does not fit ${pattern}` };
}

const WORDS_OF_PATTERNS: Record<string, string> = { "^([0-9a-f]{64})?$": "64 hex digits in lower case are expected: a SHA-256" };

function* ofList(root: Schema, { items, maxItems }: Schema, value: unknown[], at: string): Generator<Finding> {
  if (maxItems !== undefined && value.length > maxItems) yield { pointer: at, detail: `has ${value.length} items, at most ${maxItems} are taken` };
  if (items) for (const [index, one] of value.entries()) yield* found(root, items, one, `${at}/${index}`);
}

function* ofObject(root: Schema, schema: Schema, value: Record<string, unknown>, at: string): Generator<Finding> {
  const { properties = {}, required = [], additionalProperties, maxProperties, propertyNames } = schema;
  for (const name of required) if (value[name] === undefined) yield { pointer: `${at}/${escaped(name)}`, detail: "is required" };
  const names = Object.keys(value).filter((name) => value[name] !== undefined);
  if (maxProperties !== undefined && names.length > maxProperties) yield { pointer: at, detail: `has ${names.length} entries, at most ${maxProperties} are taken` };
  for (const name of names) {
    const pointer = `${at}/${escaped(name)}`;
    if (propertyNames) yield* found(root, propertyNames, name, pointer);
    const inner = properties[name] ?? additionalProperties;
    if (inner === false) yield { pointer, detail: "is not known here" };
    else if (typeof inner === "object") yield* found(root, inner, value[name], pointer);
  }
}

export const escaped = (name: string): string => name.replaceAll("~", "~0").replaceAll("/", "~1");
