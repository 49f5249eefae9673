import assert from "node:assert/strict";
import { once } from "node:events";
import { after, before, test } from "node:test";
import { Cancelled, InternalError, InvalidParams, PoisonRequest } from "../dist/index.js";
import { ENDLESS, fake, rest, textOf } from "./support.mjs";

const prompt = "Hello";
let sidecar;

before(async () => {
  sidecar = await fake({ after() {} });
});
after(() => sidecar.close());

test("an answer comes in deltas without gaps, and then as a whole", async () => {
  const stream = sidecar.generate({ model: "fake?tokens=300&wide=1&delay_ms=1", prompt });
  const deltas = await rest(stream);
  const result = await stream.result;
  assert.deepEqual(deltas.map(({ seq }) => seq), deltas.map((_, index) => index));
  assert.equal(textOf(deltas), result.text);
  assert.deepEqual(deltas.flatMap(({ tokens }) => tokens), result.tokens);
  assert.equal(result.finish_reason, "stop");
  assert.equal(result.usage.completion_tokens, 300);
  assert.equal(stream.text, result.text);
  assert.deepEqual(await stream.next(), { done: true, value: undefined });
});

test("a stream and the answer in one piece say the same", async () => {
  const params = { model: "fake?tokens=50", messages: [{ role: "user", content: prompt }], seed: 7 };
  const [streamed, whole] = await Promise.all([sidecar.generate(params).result, sidecar.complete(params)]);
  assert.equal(streamed.text, whole.text);
});

test("the result of a stream that nobody reads comes whatever its window, and a late reader gets all of it", async () => {
  const stream = sidecar.generate({ model: "fake?tokens=500&delay_ms=1", prompt, window: 2 });
  const { text, usage } = await stream.result;
  assert.equal(usage.completion_tokens, 500);
  assert.equal(textOf(await rest(stream)), text);
});

test("without echo_text the text of the result is that of the deltas", async () => {
  const stream = sidecar.generate({ model: "fake?text=Hello%20there", prompt, echo_text: false });
  const deltas = await rest(stream);
  const { text, tokens } = await stream.result;
  assert.equal(text, "Hello there");
  assert.deepEqual(tokens, deltas.flatMap((delta) => delta.tokens));
});

test("break cancels, and the result tells what there was", async () => {
  const stream = sidecar.generate({ model: ENDLESS, prompt });
  let text = "";
  for await (const delta of stream) {
    text += delta.text;
    if (delta.seq === 3) break;
  }
  const result = await stream.result;
  assert.equal(result.finish_reason, "cancelled");
  assert.ok(result.text.startsWith(text));
  assert.deepEqual(await stream.next(), { done: true, value: undefined });
});

test("an exception in the loop cancels", async () => {
  const stream = sidecar.generate({ model: ENDLESS, prompt });
  await assert.rejects(async () => {
    for await (const _ of stream) throw new Error("enough");
  }, /enough/);
  assert.equal((await stream.result).finish_reason, "cancelled");
});

test("the end of an `await using` block cancels", async () => {
  const stream = sidecar.generate({ model: ENDLESS, prompt });
  await stream.next();
  await stream[Symbol.asyncDispose]();
  assert.equal((await stream.result).finish_reason, "cancelled");
});

test("cancel ends the iteration of whoever waits", async () => {
  const stream = sidecar.generate({ model: "fake?prefill_ms=600000", prompt });
  const waiting = stream.next();
  await sidecar.ping();
  stream.cancel();
  stream.cancel();
  assert.deepEqual(await waiting, { done: true, value: undefined });
  await stream.result.then(
    ({ finish_reason }) => assert.equal(finish_reason, "cancelled"),
    (error) => assert.ok(error instanceof Cancelled), // it had not begun
  );
});

test("aborting a signal cancels, and its reason is what iteration and result fail with", async () => {
  const controller = new AbortController();
  const stream = sidecar.generate({ model: ENDLESS, prompt }, { signal: controller.signal });
  const other = sidecar.generate({ model: ENDLESS, prompt }, { signal: controller.signal });
  await other.next();
  const loop = (async () => {
    for await (const { seq } of stream) if (seq === 2) controller.abort();
  })();
  await assert.rejects(loop, { name: "AbortError" });
  await assert.rejects(stream.result, (error) => error === controller.signal.reason);
  assert.ok(stream.text.length > 0);
  await assert.rejects(other.next(), { name: "AbortError" });
  assert.deepEqual(await other.next(), { done: true, value: undefined });
  await sidecar.unload({ model: ENDLESS }); // refused as in use if they ran on
});

test("what an aborted stream has cost is told afterwards", async () => {
  const controller = new AbortController();
  const stream = sidecar.generate({ model: ENDLESS, prompt }, { signal: controller.signal });
  await stream.next();
  controller.abort();
  const { finish_reason, text, tokens, usage } = await stream.partial;
  assert.equal(finish_reason, "cancelled");
  assert.equal(text, stream.text);
  assert.equal(tokens.length, usage.completion_tokens);
  assert.ok(usage.completion_tokens > 0);
  assert.equal(usage.prompt_tokens, prompt.length);
  await assert.rejects(stream.result, { name: "AbortError" });
});

test("a stream tells what there was however it ends, and nothing if it never began", async () => {
  const ended = sidecar.generate({ model: "fake?text=all", prompt });
  assert.equal((await ended.partial).text, "all");
  assert.equal(await ended.partial, await ended.result);
  const broken = sidecar.generate({ model: "fake?fail_after=5", prompt });
  assert.equal((await broken.partial).usage.completion_tokens, 5);
  for (const params of [{ model: "fake?fail_load=model_not_found" }, { model: "fake", top_p: 7 }]) {
    assert.equal(await sidecar.generate({ prompt, ...params }).partial, undefined);
  }
  const signal = AbortSignal.abort();
  assert.equal(await sidecar.generate({ model: ENDLESS, prompt }, { signal }).partial, undefined);
});

test("a loop that awaits the result of its own stream is warned", async (t) => {
  let warn;
  const warned = new Promise((resolve) => (warn = resolve));
  const sidecar = await fake(t, { onLog: ({ message, logger }) => logger === "client" && warn(message) });
  const stream = sidecar.generate({ model: "fake?tokens=500&delay_ms=1", prompt, window: 8 });
  const stuck = (async () => {
    for await (const _ of stream) await stream.result;
  })();
  assert.match(await warned, /Await the result behind the loop/);
  stream.cancel();
  await stuck;
});

test("nobody is warned whose loop and result go on", async (t) => {
  const warnings = [];
  const sidecar = await fake(t, { onLog: ({ message, logger }) => logger === "client" && warnings.push(message) });
  const stream = sidecar.generate({ model: "fake?tokens=300&delay_ms=1", prompt, window: 4 });
  const { result } = stream; // asked for beside the loop
  for await (const { seq } of stream) if (seq === 5) void stream.result; // or within it, and not awaited
  assert.equal((await result).usage.completion_tokens, 300);
  assert.deepEqual(warnings, []);
});

test("a signal that is aborted already sends nothing", async (t) => {
  const sidecar = await fake(t);
  const signal = AbortSignal.abort(new Error("never"));
  await assert.rejects(rest(sidecar.generate({ model: ENDLESS, prompt }, { signal })), /never/);
  await assert.rejects(sidecar.complete({ model: ENDLESS, prompt }, { signal }), /never/);
  assert.deepEqual(await sidecar.models(), []);
});

test("aborting a request in one piece cancels it, and waits for nothing", async () => {
  const controller = new AbortController();
  const running = sidecar.complete({ model: ENDLESS, prompt }, { signal: controller.signal });
  await sidecar.ping();
  controller.abort(new Error("changed my mind"));
  await assert.rejects(running, /changed my mind/);
  await sidecar.unload({ model: ENDLESS });
});

test("a signal that outlives many streams keeps none of them", async () => {
  const { signal } = new AbortController();
  let listeners = 0;
  const count = (name, by) => {
    const original = signal[name].bind(signal);
    signal[name] = (...args) => ((listeners += by), original(...args));
  };
  count("addEventListener", 1);
  count("removeEventListener", -1);
  for (let i = 0; i < 3; i++) await sidecar.generate({ model: "fake?tokens=3", prompt }, { signal }).result;
  await sidecar.ping({ signal });
  assert.equal(listeners, 0);
});

test("deadline, length and stop are results", async () => {
  const reasons = [
    sidecar.generate({ model: ENDLESS, prompt, deadline_s: 0.05 }),
    sidecar.generate({ model: "fake?tokens=9", prompt, max_tokens: 3 }),
    sidecar.generate({ model: "fake?text=one%20two", prompt, stop: ["two"] }),
  ].map(async (stream) => (await stream.result).finish_reason);
  assert.deepEqual(await Promise.all(reasons), ["deadline", "length", "stop"]);
});

test("a generation that breaks off raises the error of its kind, with what there was", async () => {
  const params = { model: "fake?fail_after=5&delay_ms=1", prompt, seed: 1 };
  const stream = sidecar.generate(params);
  let text = "";
  const loop = (async () => {
    for await (const delta of stream) text += delta.text;
  })();
  await assert.rejects(loop, (error) => error instanceof InternalError && error.result.text === text);
  assert.equal(text.length, 5);
  await assert.rejects(stream.result, InternalError);
  await assert.rejects(sidecar.complete(params), (error) => error.result.text === text);
});

test("parameters that are wrong name their field", async () => {
  const stream = sidecar.generate({ model: "fake", prompt, top_p: 7 });
  await assert.rejects(stream.next(), (error) => error instanceof InvalidParams && error.data.errors[0].loc[0] === "top_p");
  await assert.rejects(sidecar.complete({ model: "fake", promt: "x" }), (error) =>
    error.data.errors.some(({ loc }) => loc[0] === "promt"),
  );
  assert.throws(() => sidecar.generate({ model: "fake", prompt, stream: "mine" }), /stream: /);
});

test("what is no JSON is refused here", async () => {
  await assert.rejects(sidecar.complete({ model: "fake", prompt, seed: 7n }), TypeError);
  await assert.rejects(rest(sidecar.generate({ model: "fake", prompt, seed: 7n })), TypeError);
});

test("a stream outlives the crash of its engine", async (t) => {
  const states = [];
  const notifications = [];
  const sidecar = await fake(t, {
    onEngineState: ({ state }) => states.push(state),
    onNotification: (method, params) => notifications.push([method, params.stream]),
  });
  const stream = sidecar.generate({ model: "fake?tokens=60&crash_after=20&delay_ms=1", prompt });
  await stream.next();
  const { name } = stream;
  await rest(stream);
  assert.equal((await stream.result).usage.completion_tokens, 60);
  assert.ok(states.includes("lost"));
  assert.equal(sidecar.engine.state, "ready");
  assert.deepEqual(notifications, [["stream/interrupted", name]]);
});

test("a request that kills every engine is told so", async () => {
  const stream = sidecar.generate({ model: "fake?poison_after=3", prompt });
  await assert.rejects(rest(stream), PoisonRequest);
});

test("many streams run side by side, and each gets its own", async () => {
  const runs = Array.from({ length: 100 }, async (_, number) => {
    const stream = sidecar.generate({ model: "fake?echo=1", prompt: `number ${number}` });
    assert.equal(textOf(await rest(stream)), `number ${number}`);
    assert.equal((await stream.result).text, `number ${number}`);
  });
  await Promise.all(runs);
});

test("a result that nobody looks at fails unseen", async (t) => {
  const sidecar = await fake(t);
  const unhandled = [];
  const note = (error) => unhandled.push(error);
  process.on("unhandledRejection", note);
  sidecar.generate({ model: "fake?fail_load=model_not_found", prompt });
  const controller = new AbortController();
  sidecar.generate({ model: ENDLESS, prompt }, { signal: controller.signal });
  sidecar.generate({ model: ENDLESS, prompt });
  await sidecar.ping();
  controller.abort();
  await sidecar.close();
  await once(setImmediate(() => process.emit("checked")) && process, "checked");
  process.off("unhandledRejection", note);
  assert.deepEqual(unhandled, []);
});
