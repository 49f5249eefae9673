// Bundles the extension, its page, and the licences of what is in them, into dist/.
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { build, context } from "esbuild";

const root = fileURLToPath(new URL(".", import.meta.url));
const isWatching = process.argv.includes("--watch");
const shared = { absWorkingDir: root, bundle: true, minify: !isWatching, sourcemap: isWatching, metafile: true, logLevel: "warning" };
const bundles = [
  // Node's CommonJS, which every version of the editor loads; `vscode` is the editor's own.
  {
    ...shared,
    entryPoints: { extension: "src/editor/extension.ts" },
    outdir: "dist",
    outExtension: { ".js": ".cjs" },
    platform: "node",
    target: "node20",
    format: "cjs",
    external: ["vscode"],
    keepNames: true,
  },
  { ...shared, entryPoints: { chat: "src/webview/chat.ts" }, outdir: "dist", platform: "browser", target: "es2022", format: "iife" },
];

/** The packages that files of a bundle are from, without our own. */
function packagesIn({ inputs }) {
  const names = Object.keys(inputs).map((file) => /^node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(file)?.[1]);
  return names.filter((name) => name !== undefined);
}

function licenceOf(name) {
  const folder = join(root, "node_modules", name);
  const { version } = JSON.parse(readFileSync(join(folder, "package.json"), "utf8"));
  const file = readdirSync(folder).find((entry) => /^licen[cs]e/i.test(entry));
  if (file === undefined) throw new Error(`${name} comes without a licence`);
  return `${name} ${version}\n\n${readFileSync(join(folder, file), "utf8").trim()}\n`;
}

function writeNotices(results) {
  const names = new Set(results.flatMap(({ metafile }) => packagesIn(metafile)));
  const head = "The extension holds code of these packages.\n";
  writeFileSync(join(root, "dist", "THIRD-PARTY-NOTICES"), [head, ...[...names].sort().map(licenceOf)].join("\n----\n\n"));
}

if (!existsSync(join(root, "../typescript/dist/index.js"))) throw new Error("build clients/typescript first: npm --prefix ../typescript run build");
if (isWatching) for (const options of bundles) await (await context(options)).watch();
else writeNotices(await Promise.all(bundles.map((options) => build(options))));
