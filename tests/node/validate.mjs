// Judges values by ../../schemas with ajv, as long as its standard input lasts: a line [[definition, value], …] is answered
// by a line with one entry for each, null or what is wrong. Made for tests/contract.
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import Ajv2020 from "ajv/dist/2020.js";

const bundle = JSON.parse(readFileSync(new URL("../../schemas/mlx-sidecar.schema.json", import.meta.url), "utf8"));
const ajv = new Ajv2020.default({ strict: false });
ajv.addSchema(bundle);
const validators = new Map();

function validator(definition) {
  if (!validators.has(definition)) {
    validators.set(definition, ajv.compile({ $ref: `${bundle.$id}#/$defs/${definition}` }));
  }
  return validators.get(definition);
}

function judge([definition, value]) {
  const valid = validator(definition);
  return valid(value) ? null : ajv.errorsText(valid.errors.slice(0, 3));
}

for await (const line of createInterface({ input: process.stdin })) {
  process.stdout.write(`${JSON.stringify(JSON.parse(line).map(judge))}\n`);
}
