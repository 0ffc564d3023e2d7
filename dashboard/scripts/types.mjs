// Writes the types of the API's bodies and of the log's events, from the files in schemas/. What is written is not committed.
import { mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { compile } from "json-schema-to-typescript";
import openapiTypescript, { astToString } from "openapi-typescript";

const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "../..");
const schemas = path.join(root, "schemas");
const target = path.join(root, "dashboard/src/api/generated");

const read = async (name) => JSON.parse(await readFile(path.join(schemas, name), "utf8"));

/** One schema of all versions of all events, so that what they share is written once. A misspelt field is an error. */
async function events() {
  const found = [];
  for (const name of (await readdir(path.join(schemas, "events"))).sort()) {
    const schema = await read(`events/${name}`);
    const topic = name.replace(/\.json$/, "");
    const title = topic.split(/[._]/).map((word) => word[0].toUpperCase() + word.slice(1)).join("");
    found.push({ topic, title, schema });
  }
  const definitions = {};
  for (const { title, schema } of found) {
    const { $defs = {}, $id, $schema, title: _title, ...rest } = schema;
    for (const [name, part] of Object.entries($defs)) definitions[name] ??= closed(part);
    definitions[title] = closed({ ...rest, title });
  }
  const all = { title: "EventData", anyOf: found.map(({ title }) => ({ $ref: `#/$defs/${title}` })), $defs: definitions };
  const types = await compile(all, "EventData", { additionalProperties: false, bannerComment: BANNER, format: false });
  const union = found.map(({ topic, title }) => `  | { type: "io.nunet.dms.${topic}"; data: ${title} }`).join("\n");
  return `${types}\n/** An event of the log by its type. */\nexport type TypedEvent =\n${union};\n`;
}

function closed(schema) {
  if (Array.isArray(schema)) return schema.map(closed);
  if (schema === null || typeof schema !== "object") return schema;
  const inner = Object.fromEntries(Object.entries(schema).map(([key, value]) => [key, closed(value)]));
  delete inner.title_;
  if (inner.type === "object" && inner.properties && inner.additionalProperties === undefined) inner.additionalProperties = false;
  return inner;
}

const BANNER = "// Made by scripts/types.mjs from schemas/.";
await mkdir(target, { recursive: true });
const description = await read("openapi.json");
await writeFile(path.join(target, "openapi.ts"), `${BANNER}\n${astToString(await openapiTypescript(description))}`);
await writeFile(path.join(target, "events.ts"), await events());
