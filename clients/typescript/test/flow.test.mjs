import assert from "node:assert/strict";
import { test } from "node:test";
import { fake, rest } from "./support.mjs";

const prompt = "Hello";

test("a reader that stalls pauses the engine, and nothing piles up", async (t) => {
  const sidecar = await fake(t);
  const stream = sidecar.generate({ model: "fake?tokens=5000&delay_ms=1", prompt, window: 4 });
  await stream.next();
  // Another one runs meanwhile to its end, and takes as long as hundreds of tokens of the first.
  await sidecar.generate({ model: "fake?tokens=300&delay_ms=1", prompt }).result;
  const arrived = stream.tokens.length;
  await sidecar.complete({ model: "fake?tokens=50&delay_ms=1", prompt });
  assert.equal(stream.tokens.length, arrived);
  stream.cancel();
  const { usage, finish_reason } = await stream.result;
  assert.equal(finish_reason, "cancelled");
  assert.ok(usage.completion_tokens < 150, `decoded ${usage.completion_tokens}`);
});

test("a slow reader gets everything, at its own pace", async (t) => {
  const sidecar = await fake(t);
  for (const window of [1, 2, 3, 64]) {
    const stream = sidecar.generate({ model: "fake?tokens=200&delay_ms=1", prompt, window });
    const tokens = [];
    for await (const delta of stream) {
      tokens.push(...delta.tokens);
      await sidecar.ping();
    }
    assert.deepEqual(tokens, (await stream.result).tokens);
    assert.equal(tokens.length, 200);
  }
});

test("the default window bounds what waits for a reader that stalls", async (t) => {
  const sidecar = await fake(t);
  const stream = sidecar.generate({ model: "fake?tokens=100000&context=200000", prompt });
  await stream.next();
  // Deltas of a busy machine hold more, so that the window is used up later; without one all would come.
  let arrived = 0;
  while (stream.tokens.length > arrived) {
    arrived = stream.tokens.length;
    await sidecar.complete({ model: "fake?tokens=2000", prompt });
  }
  assert.ok(arrived < 100_000);
  stream.cancel();
});

test("without a window a stream goes on whoever reads", async (t) => {
  const sidecar = await fake(t, { window: null });
  const stream = sidecar.generate({ model: "fake?tokens=500&delay_ms=1", prompt });
  await stream.next();
  while (stream.tokens.length < 500) await sidecar.ping();
  assert.equal((await stream.result).usage.completion_tokens, 500);
});

test("20,000 tokens arrive whole and in order", async (t) => {
  const sidecar = await fake(t);
  const stream = sidecar.generate({ model: "fake?tokens=20000&context=40000", prompt });
  const deltas = await rest(stream);
  const { tokens, usage } = await stream.result;
  assert.equal(usage.completion_tokens, 20_000);
  assert.ok(deltas.every(({ seq }, index) => seq === index));
  assert.deepEqual(deltas.flatMap((delta) => delta.tokens), tokens);
});
