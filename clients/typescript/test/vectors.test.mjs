import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { ContextTooLong, InvalidParams } from "../dist/index.js";
import { fake } from "./support.mjs";

const model = "fake?dimensions=4";
let sidecar;

before(async () => {
  sidecar = await fake({ after() {} });
});
after(() => sidecar.close());

test("any number of texts get vectors in their order, by requests of some of them each", async () => {
  const input = Array.from({ length: 23 }, (_, at) => `text ${at}`);
  const vectors = await sidecar.embedAll({ model, input, batch: 5 });
  const { embeddings } = await sidecar.embed({ model, input });
  assert.deepEqual(vectors.map((vector) => [...vector]), embeddings);
  assert.ok(vectors.every((vector) => vector instanceof Float32Array));
});

test("an error of one request ends all of them", async () => {
  const input = [...Array.from({ length: 11 }, () => "x"), ""];
  await assert.rejects(sidecar.embedAll({ model, input, batch: 2 }), (error) => {
    assert.ok(error instanceof InvalidParams);
    assert.match(error.message, /^input\.11: /);
    assert.deepEqual(error.data.errors[0].loc, ["input", 11]);
    return true;
  });
  const long = [...Array.from({ length: 7 }, () => "x"), "x".repeat(9)];
  await assert.rejects(sidecar.embedAll({ model: `${model}&context=8`, input: long, batch: 3 }), (error) => {
    assert.ok(error instanceof ContextTooLong);
    assert.equal(error.data.field, "input.7");
    return true;
  });
  await assert.rejects(sidecar.embedAll({ model, input, batch: 1.5 }), RangeError);
});

test("documents come best first", async () => {
  const { results } = await sidecar.rerank({ model, query: "red stone ", documents: ["a fish", "a red stone"] });
  assert.deepEqual(results.map(({ index }) => index), [1, 0]);
});
