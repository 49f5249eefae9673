// Checks ../../schemas as a JavaScript host would use them; prints one JSON object for tests/protocol/test_schemas_node.py.
import { readFileSync, writeFileSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import Ajv2020 from "ajv/dist/2020.js";
import { compile } from "json-schema-to-typescript";
import ts from "typescript";

const schemas = new URL("../../schemas/", import.meta.url);
const bundle = JSON.parse(readFileSync(new URL("mlx-sidecar.schema.json", schemas), "utf8"));
const samples = JSON.parse(readFileSync(0, "utf8")); // [{definition, value}], on standard input

function compileAll() {
  const ajv = new Ajv2020.default({ strict: false });
  ajv.addSchema(bundle);
  return Object.fromEntries(
    Object.keys(bundle.$defs).map((name) => [name, ajv.compile({ $ref: `${bundle.$id}#/$defs/${name}` })]),
  );
}

function verdicts(validators) {
  return samples.map(({ definition, value }) => validators[definition](value));
}

function diagnostics(source) {
  const directory = mkdtempSync(join(tmpdir(), "mlx-sidecar-types-"));
  try {
    const file = join(directory, "types.ts");
    writeFileSync(file, source);
    const program = ts.createProgram([file], { strict: true, noEmit: true, types: [] });
    return ts.getPreEmitDiagnostics(program).map((found) => ts.flattenDiagnosticMessageText(found.messageText, "\n"));
  } finally {
    rmSync(directory, { recursive: true });
  }
}

const validators = compileAll();
const types = await compile(structuredClone(bundle), "AnyFrame", { bannerComment: "" });
process.stdout.write(
  JSON.stringify({
    compiled: Object.keys(validators),
    verdicts: verdicts(validators),
    exported: [...types.matchAll(/^export (?:interface|type) (\w+)/gm)].map((match) => match[1]),
    diagnostics: diagnostics(types),
    types,
  }),
);
