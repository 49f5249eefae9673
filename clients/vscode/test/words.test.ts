// Settings, status, advice, messages: all that is decided without an engine.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { ExecutableNotFound, ERROR_CLASSES, type GenerateResult } from "mlx-sidecar";
import { adviceFor } from "../src/core/advice.js";
import { chatPage } from "../src/core/chat-page.js";
import { modelChoices, sized } from "../src/core/models.js";
import { fenced } from "../src/core/quote.js";
import { changed, FIELDS, needsRestart, readSettings } from "../src/core/settings.js";
import { progressWords, speedOf, type Status, viewOf } from "../src/core/status.js";
import { fromView } from "../src/core/view-messages.js";
import { settingsWith } from "./support.js";

interface Manifest {
  contributes: { configuration: { properties: Record<string, { default: unknown; scope?: string }> } };
}

const manifest = JSON.parse(readFileSync(new URL("../../package.json", import.meta.url), "utf8")) as Manifest;

test("the editor is told of the settings that there are, with their defaults", () => {
  const declared = Object.entries(manifest.contributes.configuration.properties).map(([name, { default: value }]) => [name, value]);
  const known = Object.entries(FIELDS).map(([name, { fallback }]) => [`mlxSidecar.${name}`, fallback]);
  assert.deepEqual(declared, known);
});

test("a workspace cannot name a program to run", () => {
  const { properties } = manifest.contributes.configuration;
  assert.deepEqual(["executable", "arguments"].map((name) => properties[`mlxSidecar.${name}`]?.scope), ["application", "application"]);
});

test("a wrong setting is refused by its name", () => {
  const wrong: [string, unknown][] = [
    ["model", 3], ["arguments", "x"], ["completion.maxTokens", 0], ["completion.debounceMs", 1.5], ["chat.temperature", -1],
    ["completion.enabled", "yes"], ["completion.stop", [1]], ["chat.reasoningBudget", "much"],
  ];
  for (const [name, value] of wrong) {
    const read = () => readSettings((asked) => (asked === name ? value : undefined));
    assert.throws(read, (error: Error) => error.message.startsWith(`mlxSidecar.${name} must be `), name);
  }
});

test("only the program and its options need another process", () => {
  const names = changed(settingsWith(), settingsWith({ model: "a", "completion.stop": ["x"], "chat.maxTokens": 5 }));
  assert.deepEqual([...names], ["model", "completion.stop", "chat.maxTokens"]);
  assert.equal(needsRestart(names), false);
  assert.equal(needsRestart(changed(settingsWith(), settingsWith({ arguments: ["--no-autoload"] }))), true);
  assert.equal(changed(settingsWith({ arguments: ["a"] }), settingsWith({ arguments: ["a"] })).size, 0);
});

const STATUS: Status = { engine: "ready", model: "mlx-community/Qwen", isCompleting: true, running: 0 };
const RESULT = {
  usage: { prompt_tokens: 40, cached_tokens: 32, completion_tokens: 11 },
  timing: { decode_s: 0.5 },
} as unknown as GenerateResult;

test("the status bar has the model, the state and the speed", () => {
  const last = speedOf("m", RESULT);
  assert.equal(viewOf({ ...STATUS, last }).text, "Qwen · 20 tok/s");
  assert.match(viewOf({ ...STATUS, last }).tooltip.join("\n"), /11 tokens, 20 tokens\/s; 32 of 40 prompt tokens/);
  assert.deepEqual([viewOf({ ...STATUS, engine: "failed", because: "no program" }).severity, viewOf(STATUS).severity], ["error", "none"]);
  assert.match(viewOf({ ...STATUS, running: 1 }).icon, /spin/);
  assert.equal(viewOf({ ...STATUS, engine: "stopped", last }).text, "Qwen · stopped");
  assert.equal(viewOf({ ...STATUS, model: "/models/one/" }).text, "one");
  assert.equal(viewOf({ ...STATUS, model: "x".repeat(50) }).text, `${"x".repeat(31)}…`);
});

test("a load tells how far it is", () => {
  const progress = { token: 1, model: "m", stage: "downloading", done_bytes: 1_200_000_000, total_bytes: 3_000_000_000 };
  assert.equal(progressWords(progress), "downloading 1.2 GB of 3.0 GB, 40 %");
  assert.equal(progressWords({ token: 1, model: "m", stage: "reading", done_bytes: 0 }), "reading");
  assert.equal(viewOf({ ...STATUS, loading: progress }).text, "Qwen · downloading 1.2 GB of 3.0 GB, 40 %");
  assert.deepEqual([0, 999, 1000, 123_456_789].map(sized), ["0 B", "999 B", "1.0 kB", "123 MB"]);
});

function rpcError(kind: keyof typeof ERROR_CLASSES, data: object, message = "no"): Error {
  return new ERROR_CLASSES[kind]({ code: 0, message, data: { kind, retryable: false, ...data } } as never);
}

test("errors say what can be done", () => {
  const actions = (error: unknown) => adviceFor(error).remedies.map(({ action }) => action);
  assert.deepEqual(actions(new ExecutableNotFound("it is not on the search path")), ["install", "chooseExecutable"]);
  assert.match(adviceFor(new ExecutableNotFound("?")).message, /the setting mlxSidecar.executable/);
  assert.deepEqual(actions(rpcError("model_not_found", { model: "owner/name" })), ["download", "chooseModel"]);
  assert.deepEqual(actions(rpcError("model_not_found", { model: "/no/such/folder" })), ["chooseModel"]);
  assert.deepEqual(actions(rpcError("context_too_long", { have: 9, limit: 8 })), ["newChat", "settings"]);
  assert.deepEqual(actions(new Error("?")), ["showLog"]);
  assert.match(adviceFor(rpcError("overloaded", { retry_after_s: 1.2 })).message, /Try again in 2 s/);
  const escape = rpcError("unsupported_parameter", { name: "escape_special" });
  assert.match(adviceFor(escape).message, /mlxSidecar.escapeSpecialTokens/);
});

test("a message of the page is checked", () => {
  assert.deepEqual(fromView({ type: "send", text: "a", more: 1 }), { type: "send", text: "a" });
  assert.deepEqual(fromView({ type: "stop" }), { type: "stop" });
  for (const wrong of [null, {}, { type: "send" }, { type: "run" }, { type: "remedy", remedy: { label: "x" } }, "stop"]) {
    assert.throws(() => fromView(wrong), TypeError);
  }
});

test("a quoted text cannot end its fence", () => {
  assert.equal(fenced("a\r\nb\n", "js"), "```js\na\nb\n```");
  assert.equal(fenced("```\nx\n```", "md"), "````md\n```\nx\n```\n````");
});

test("the page may run its own script and nothing else", () => {
  const html = chatPage({ cspSource: "https://own", script: "s.js", style: "s.css", nonce: "n0" });
  const policy = /content="(default-src[^"]+)"/.exec(html)?.[1];
  assert.equal(policy, "default-src 'none'; base-uri 'none'; form-action 'none'; style-src https://own; script-src 'nonce-n0'");
  assert.deepEqual([...html.matchAll(/<script[^>]*>/g)].map(([tag]) => tag), ['<script nonce="n0" src="s.js">']);
});

test("the picker has loaded models first, and says which cannot be loaded", () => {
  const local = [
    { name: "b", source: "hub", path: "/b", size_bytes: 1e9, loaded: false, architecture: "qwen3", quantization: "4-bit" },
    { name: "pocket", source: "embedded", path: "/p", size_bytes: 2e6, loaded: false, problem: "too small" },
  ] as const;
  const cards = [{ model: "pocket", state: "ready", path: "/p", pinned: false, streams: 0 }, { model: "fake", state: "ready", path: "f", pinned: false, streams: 0 }] as const;
  const choices = modelChoices(local, cards);
  assert.deepEqual(choices.map(({ name, isLoaded }) => [name, isLoaded]), [["fake", true], ["pocket", true], ["b", false]]);
  assert.deepEqual(choices.map(({ detail }) => detail).slice(1), ["cannot be loaded: too small", "qwen3 · 4-bit · 1.0 GB · hub cache"]);
});
