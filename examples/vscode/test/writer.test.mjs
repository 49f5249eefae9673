// The logic in plain Node, with the real sidecar and its fake engine.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { Writer } from "../writer.mjs";

const COMMAND = JSON.parse(process.env.MLX_SIDECAR_TEST_COMMAND ?? '["mlx-sidecar"]');
const ENDLESS = { before: "Once", model: "fake?tokens=100000&delay_ms=1", maxTokens: 100_000 };

function writer(t) {
  const made = new Writer({ command: COMMAND, args: ["--engine", "fake"], onLog: () => {} });
  t.after(() => made.dispose());
  return made;
}

test("text is inserted piece by piece, and the end says why", async (t) => {
  let text = "";
  const wish = { before: "Once upon a time", model: "fake?echo=1", maxTokens: 100 };
  assert.equal(await writer(t).continue(wish, (piece) => void (text += piece)), "stop");
  assert.equal(text, "Once upon a time");
});

test("stopping ends it at once, with what had been inserted", async (t) => {
  const one = writer(t);
  let pieces = 0;
  const reason = await one.continue(ENDLESS, () => {
    pieces += 1;
    if (pieces === 3) one.stop();
  });
  assert.deepEqual([reason, pieces], ["stopped", 3]);
});

test("a new wish ends the one before", async (t) => {
  const one = writer(t);
  let next;
  const first = one.continue(ENDLESS, () => {
    next ??= one.continue({ ...ENDLESS, maxTokens: 5 }, () => {});
  });
  assert.equal(await first, "stopped");
  assert.equal(await next, "length");
});

test("stopping while the sidecar starts ends it as well", async (t) => {
  const one = writer(t);
  const running = one.continue(ENDLESS, () => assert.fail("nothing is inserted"));
  one.stop();
  assert.equal(await running, "stopped");
});

test("errors reach the editor, and the next wish is served", async (t) => {
  const one = writer(t);
  await assert.rejects(one.continue({ ...ENDLESS, model: "fake?fail_load=model_not_found" }, () => {}), { kind: "model_not_found" });
  await assert.rejects(one.continue(ENDLESS, () => Promise.reject(new Error("read-only"))), /read-only/);
  assert.equal(await one.continue({ ...ENDLESS, maxTokens: 5 }, () => {}), "length");
});

test("a sidecar that is not installed is told of, and tried again", async (t) => {
  const one = new Writer({ command: "/nonexistent/mlx-sidecar" });
  t.after(() => one.dispose());
  for (let i = 0; i < 2; i++) await assert.rejects(one.continue(ENDLESS, () => {}), { kind: "executable_not_found" });
});

test("the extension registers every command that its manifest names, and no module but it needs the editor", () => {
  const read = (name) => readFileSync(new URL(`../${name}`, import.meta.url), "utf8");
  const { contributes } = JSON.parse(read("package.json"));
  const registered = [...read("extension.cjs").matchAll(/registerCommand\("([^"]+)"/g)].map(([, name]) => name);
  assert.deepEqual(contributes.commands.map(({ command }) => command), registered);
  assert.doesNotMatch(read("writer.mjs"), /"vscode"/);
});
