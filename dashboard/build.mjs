// Bundles the dashboards into the folder from which the DMS serves them. The names of the assets hold their digest, so a
// browser may keep them for ever; each file that shrinks has its .gz beside it.
import { readFile, rm, mkdir, writeFile } from "node:fs/promises";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { build } from "esbuild";

const here = path.dirname(fileURLToPath(import.meta.url));
const outdir = path.resolve(process.argv[2] ?? path.join(here, "../dms/adapters/http/dashboard_files"));
const FIRST_LOAD_BYTES = 150_000; // compressed: what a first visit may cost

const result = await build({
  absWorkingDir: here,
  entryPoints: { main: "src/main.tsx", worker: "src/live/worker.ts", theme: "src/app/first_paint.ts" },
  bundle: true,
  minify: true,
  format: "esm",
  target: ["es2022"],
  jsx: "automatic",
  jsxImportSource: "preact",
  entryNames: "assets/[name]-[hash]",
  chunkNames: "assets/[name]-[hash]",
  assetNames: "assets/[name]-[hash]",
  metafile: true,
  write: false,
  outdir,
  legalComments: "none",
});

const named = (entry, ending) => {
  const file = result.outputFiles.find(({ path: at }) => path.basename(at).startsWith(`${entry}-`) && at.endsWith(ending));
  if (!file) throw new Error(`the bundle has no ${entry}*${ending}`);
  return path.relative(outdir, file.path);
};
const index = (await readFile(path.join(here, "src/index.html"), "utf8"))
  .replace("{{main.js}}", named("main", ".js"))
  .replace("{{main.css}}", named("main", ".css"))
  .replace("{{theme.js}}", named("theme", ".js"))
  .replace("{{worker.js}}", named("worker", ".js"));
const files = new Map(result.outputFiles.map(({ path: at, contents }) => [path.relative(outdir, at), contents]));
files.set("index.html", Buffer.from(index));
files.set("licences.txt", Buffer.from(await licences(Object.keys(result.metafile.inputs))));
files.set("icon.svg", await readFile(path.join(here, "src/icon.svg")));

await rm(outdir, { recursive: true, force: true });
await mkdir(path.join(outdir, "assets"), { recursive: true });
let firstLoad = 0;
for (const [name, contents] of [...files].sort()) {
  const packed = gzipSync(contents, { level: 9 });
  await writeFile(path.join(outdir, name), contents);
  if (packed.length < contents.length) await writeFile(path.join(outdir, `${name}.gz`), packed);
  if (name !== "licences.txt") firstLoad += Math.min(packed.length, contents.length);
  console.log(`${name.padEnd(32)} ${String(contents.length).padStart(8)} B ${String(packed.length).padStart(8)} B gzip`);
}
console.log(`first load: ${firstLoad} B compressed of ${FIRST_LOAD_BYTES} B`);
if (firstLoad > FIRST_LOAD_BYTES) throw new Error("the first load is larger than it may be");

/** The texts that the packages in the bundle want to have passed on. */
async function licences(inputs) {
  const names = new Set(inputs.flatMap((input) => /node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(input)?.[1] ?? []));
  const texts = [...names].sort().map(async (name) => {
    const folder = path.join(here, "node_modules", name);
    const { version, license } = JSON.parse(await readFile(path.join(folder, "package.json"), "utf8"));
    return `${name} ${version} (${license})\n\n${await readFile(path.join(folder, "LICENSE"), "utf8")}`;
  });
  return (await Promise.all(texts)).join(`\n${"-".repeat(80)}\n\n`);
}
