import assert from "node:assert/strict";
import { test } from "node:test";
import { completerFor, deferred, ENDLESS, engineFor, never, placeIn, saying, settingsWith, sharedEngine } from "./support.js";

const engine = sharedEngine();

test("the pause comes before the engine is asked, unless the completion was asked for", async () => {
  const waited: number[] = [];
  const { completer } = completerFor(engine, async (ms) => waited.push(ms));
  const settings = settingsWith({ model: saying("1 + 1"), "completion.debounceMs": 70 });
  assert.equal(await completer.complete(placeIn("a = |"), settings, false, never), "1 + 1");
  assert.equal(await completer.complete(placeIn("b = |"), settings, true, never), "1 + 1");
  assert.deepEqual(waited, [70]);
});

test("nothing is asked while a person types faster than the pause", async (t) => {
  const { engine, states } = engineFor(t);
  const { completer, running } = completerFor(engine);
  const settings = settingsWith({ model: saying("x"), "completion.debounceMs": 60_000 });
  const places = ["a|", "ab|", "abc|"].map((text) => completer.complete(placeIn(text), settings, false, never));
  completer.cancel();
  assert.deepEqual(await Promise.all(places), [undefined, undefined, undefined]);
  assert.deepEqual([states, running], [[], []]);
});

test("a new request cancels the one before, in the engine too", async () => {
  const { completer, running } = completerFor(engine);
  const began = deferred();
  const settings = (model: string) => settingsWith({ model, "completion.debounceMs": 0, "completion.maxTokens": 100_000, "completion.stop": [] });
  const first = completer.complete(placeIn("a = |"), settings(ENDLESS), true, never);
  const wait = setInterval(() => running.length > 0 && began.resolve(), 5);
  await began.promise;
  clearInterval(wait);
  assert.equal(await completer.complete(placeIn("b = |"), settings(saying("2")), true, never), "2");
  assert.equal(await first, undefined);
  const sidecar = await engine.sidecar();
  while ((await sidecar.models()).some(({ streams }) => streams > 0)) await sidecar.ping();
});

test("the signal of the editor cancels", async () => {
  const { completer } = completerFor(engine);
  const settings = settingsWith({ model: ENDLESS, "completion.debounceMs": 0, "completion.maxTokens": 100_000 });
  const editor = new AbortController();
  const asked = completer.complete(placeIn("a = |"), settings, true, editor.signal);
  editor.abort();
  assert.equal(await asked, undefined);
});

test("while the suggestion is typed its rest is there at once, and no longer when something else was", async () => {
  const { completer, results } = completerFor(engine);
  const settings = settingsWith({ model: saying("return total"), "completion.debounceMs": 0 });
  const ask = (text: string, document?: string) => completer.complete(placeIn(text, document), settings, false, never);
  assert.equal(await ask("x = 1\n|"), "return total");
  assert.equal(await ask("x = 1\nret|"), "urn total");
  assert.equal(await ask("x = 1\nreturn t|"), "otal");
  assert.equal(results.length, 1);
  await ask("x = 2\nreturn t|");
  await ask("x = 1\nret|", "file:///other.py");
  await ask("x = 1\nrex|");
  assert.equal(results.length, 4);
});

test("generation ends as soon as the line or block is whole", async () => {
  const { completer, results } = completerFor(engine);
  const settings = settingsWith({
    model: saying("\n        return 1\nprint(2)" + "x".repeat(3000), "&delay_ms=1"),
    "completion.debounceMs": 0,
    "completion.maxTokens": 3000,
  });
  assert.equal(await completer.complete(placeIn("class A:\n    def f(self):|"), settings, false, never), "\n        return 1");
  assert.ok(results[0] && results[0].finish_reason === "cancelled" && results[0].usage.completion_tokens < 2000);
});

test("what the editor's own list would insert is in front of the suggestion", async () => {
  const { completer } = completerFor(engine);
  const settings = settingsWith({ model: "fake?echo=1", "completion.debounceMs": 0 });
  const place = { ...placeIn("a.app|"), selected: "end" };
  assert.equal(await completer.complete(place, settings, false, never), "a.append");
});

test("an error of the engine is thrown, and the next request is served", async () => {
  const { completer } = completerFor(engine);
  const settings = (model: string) => settingsWith({ model, "completion.debounceMs": 0 });
  const failing = completer.complete(placeIn("a|"), settings("fake?fail_load=model_not_found"), false, never);
  await assert.rejects(failing, { kind: "model_not_found" });
  assert.equal(await completer.complete(placeIn("a|"), settings(saying("b")), false, never), "b");
});

test("at the beginning of a document a model without fill-in-the-middle is not asked", async () => {
  const { completer, results } = completerFor(engine);
  assert.equal(await completer.complete(placeIn("  |"), settingsWith({ model: saying("x") }), true, never), undefined);
  assert.equal(results.length, 0);
});
