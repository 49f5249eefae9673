// Writes src/generated.ts from ../../schemas; with --check it writes nothing and fails if the file is not current.
import { readFileSync, writeFileSync } from "node:fs";
import { compile } from "json-schema-to-typescript";

const target = new URL("../src/generated.ts", import.meta.url);
const read = (path) => JSON.parse(readFileSync(new URL(path, import.meta.url), "utf8"));
const bundle = read("../../../schemas/mlx-sidecar.schema.json");
const { protocol_version, methods, errors } = read("../../../schemas/methods.json");
const { version } = read("../package.json");

const nameOf = ({ $ref }) => $ref.split("/").at(-1);
const lines = (items, line) => items.map((item) => `  ${line(item)}\n`).join("");
const doc = ({ summary }) => `/** ${summary} */`;

function requestsTable() {
  const requests = methods.filter(({ kind, direction }) => kind === "request" && direction === "host-to-sidecar");
  const entry = (method) =>
    `${doc(method)}\n  "${method.name}": { params: ${nameOf(method.params)}; result: ${nameOf(method.result)} };`;
  return `/** What a host can ask for: parameters and result of each method. */
export interface Requests {\n${lines(requests, entry)}}\n`;
}

function noticesTable() {
  const notices = methods.filter(({ direction }) => direction === "sidecar-to-host");
  const entry = (method) => `${doc(method)}\n  "${method.name}": ${nameOf(method.params)};`;
  return `/** What the sidecar tells: parameters of each notification. */
export interface Notices {\n${lines(notices, entry)}}\n`;
}

function errorsTable() {
  const entry = ({ kind, code, retryable }) => `${kind}: { code: ${code}, retryable: ${retryable} },`;
  const data = ({ kind, error }) => `${kind}: ${nameOf(error)}["data"];`;
  return `/** Each kind of error with its code, and whether the same request may succeed later. */
export const ERRORS = {\n${lines(errors, entry)}} as const;

export type ErrorKind = keyof typeof ERRORS;

/** What \`data\` of an error of each kind holds. */
export interface ErrorDataOf {\n${lines(errors, data)}}\n`;
}

async function generated() {
  const types = await compile(bundle, "AnyFrame", { bannerComment: "" });
  return [
    "// Generated from schemas/ by scripts/generate.mjs (npm run types). Do not edit.\n",
    `export const VERSION = "${version}";\n`,
    `export const PROTOCOL_VERSION = ${protocol_version};\n`,
    requestsTable(),
    noticesTable(),
    errorsTable(),
    types,
  ].join("\n");
}

const text = await generated();
if (!process.argv.includes("--check")) {
  writeFileSync(target, text);
} else if (readFileSync(target, "utf8") !== text) {
  console.error("src/generated.ts is not current: npm run types");
  process.exitCode = 1;
}
