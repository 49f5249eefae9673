// With the model that comes with the engine, which knows fill-in-the-middle.
import assert from "node:assert/strict";
import { test } from "node:test";
import { fillingPrompt, findFilling } from "../src/core/fim.js";
import { completerFor, engineFor, never, placeIn, settingsWith } from "./support.js";

const LINES = Array.from({ length: 12 }, (_, at) => `value_${at} = compute(${at})\n`).join("");

test("pocket is told the text before and after the gap", async (t) => {
  const { engine } = engineFor(t, []);
  const sidecar = await engine.sidecar();
  const filling = await findFilling(sidecar, "pocket");
  assert.ok(filling);
  const prompt = await sidecar.detokenize({ model: "pocket", tokens: fillingPrompt(filling, [65], [66]) });
  const [a, b] = await Promise.all([65, 66].map((token) => sidecar.detokenize({ model: "pocket", tokens: [token] })));
  assert.equal(prompt, `<|fim_prefix|>${a}<|fim_suffix|>${b}<|fim_middle|>`);

  const { completer, results } = completerFor(engine);
  const settings = settingsWith({ "completion.debounceMs": 0, "completion.maxTokens": 24 });
  const code = (line: string) => placeIn(`${LINES}def add(a, b):\n    return ${line}|\n\nprint(add(1, 2))\n`);
  await completer.complete(code(""), settings, false, never);
  const asked = results.at(-1)?.usage.prompt_tokens;
  await completer.complete(code("a"), settings, false, never);
  const usage = results.at(-1)?.usage;
  assert.ok(asked && usage && usage.cached_tokens > asked / 2, "the next key finds what the key before has computed");

  // A mark that stands in the document is a text: several tokens, and no other gap.
  await completer.complete(code("<|fim_suffix|>"), settings, false, never);
  assert.ok((results.at(-1)?.usage.prompt_tokens ?? 0) > asked + 3);
});

test("a model without the marks is given the text before the gap alone", async (t) => {
  const { engine } = engineFor(t);
  assert.equal(await findFilling(await engine.sidecar(), "fake"), undefined);
});
