import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { IncompleteForm, InvalidParams, parsed } from "../dist/index.js";
import { fake, rest, textOf } from "./support.mjs";

const prompt = "Who?";
const model = 'fake?text={"name": "Ada", "tags": ["a", "b"]}';
const person = {
  type: "json_schema",
  schema: {
    type: "object",
    properties: { name: { type: "string" }, tags: { type: "array", items: { enum: ["a", "b"] } } },
    required: ["name"],
    additionalProperties: false,
  },
};
let sidecar;

before(async () => {
  sidecar = await fake({ after() {} });
});
after(() => sidecar.close());

test("an answer is the value of its schema", async () => {
  const stream = sidecar.generate({ model, prompt, response_format: person });
  const deltas = await rest(stream);
  assert.deepEqual(await stream.parsed, { name: "Ada", tags: ["a", "b"] });
  const { text, response_format } = await stream.result;
  assert.equal(textOf(deltas), text);
  assert.equal(response_format.complete, true);
});

test("an answer in one piece is parsed with its form", async () => {
  const answer = await sidecar.complete({ model, prompt, response_format: person });
  assert.deepEqual(parsed(answer, person), { name: "Ada", tags: ["a", "b"] });
});

test("an answer that was cut off is not parsed, and its text is there", async () => {
  const stream = sidecar.generate({ model, prompt, response_format: person, max_tokens: 5 });
  await assert.rejects(stream.parsed, (error) => {
    assert.ok(error instanceof IncompleteForm);
    assert.deepEqual([error.kind, error.finishReason, error.text], ["incomplete_form", "length", '{"nam']);
    return true;
  });
});

test("a choice is its text", async () => {
  const form = { type: "choice", choices: ["yes", "no"] };
  assert.equal(await sidecar.generate({ model: "fake?text=no", prompt, response_format: form }).parsed, "no");
});

test("without a form what an answer holds is its text", async () => {
  assert.equal(await sidecar.generate({ model: "fake?text=Ada", prompt }).parsed, "Ada");
});

test("a form that cannot be kept to is refused by the path to its keyword", async () => {
  const form = { type: "json_schema", schema: { type: "object", properties: { a: { not: {} } } } };
  await assert.rejects(sidecar.generate({ model, prompt, response_format: form }).parsed, (error) => {
    assert.ok(error instanceof InvalidParams);
    assert.deepEqual(error.data.errors[0].loc, ["response_format", "schema", "properties", "a", "not"]);
    return true;
  });
});

test("reasoning before the form is no part of the value", () => {
  const result = { finish_reason: "stop", response_format: { complete: true, forced_tokens: 0, masked_steps: 0 } };
  const text = '<think>{"name": 1}?</think>\n\n{"name": "Ada"}';
  assert.deepEqual(parsed({ ...result, text }, person), { name: "Ada" });
  const marker = '{"name": "a</think>b"}';
  assert.deepEqual(parsed({ ...result, text: marker }, person), { name: "a</think>b" });
});

test("a model can draft for itself", async () => {
  assert.deepEqual(await sidecar.checkDraft({ model: "fake", draft: "fake?tokens=1" }), { compatible: true });
});
