// The extension as it is packaged, in a stand-in for the editor, with a real sidecar.
import assert from "node:assert/strict";
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, beforeEach, test } from "node:test";
import type { ChatState, ToView } from "../src/core/view-messages.js";
import { cancellation, contextOf, Document, Editor, EXTENSION, Position, TextEditor } from "./editor.js";
import { COMMAND, ENDLESS, saying } from "./support.js";

const folder = mkdtempSync(join(tmpdir(), "mlx-sidecar-vscode-"));
const program = join(folder, "mlx-sidecar");
const started = join(folder, "started");
writeFileSync(started, "");
writeFileSync(program, `#!/bin/sh\necho >>'${started}'\nexec ${COMMAND.map((word) => `'${word}'`).join(" ")} "$@"\n`);
chmodSync(program, 0o755);

const editor = new Editor();
editor.settings.set("mlxSidecar.executable", program);
editor.settings.set("mlxSidecar.arguments", ["--engine", "fake"]);
editor.settings.set("mlxSidecar.completion.debounceMs", 0);
const extension = editor.load(join(EXTENSION, "dist", "extension.cjs"));
const context = contextOf(EXTENSION);
extension.activate(context);

after(async () => {
  await extension.deactivate();
  for (const part of context.subscriptions) part.dispose();
  rmSync(folder, { recursive: true });
});

beforeEach(() => {
  editor.errors.length = 0;
  editor.choices.length = 0;
  editor.executed.length = 0;
});

const use = (model: string) => editor.change("mlxSidecar.model", model);
const answered = (message: ToView): message is { type: "state"; state: ChatState } =>
  message.type === "state" && !message.state.isAnswering && message.state.turns.at(-1)?.role === "assistant";
const starts = () => readFileSync(started, "utf8").length;

test("it starts nothing before it is needed", () => {
  assert.equal(editor.statusText, "$(circle-outline) pocket");
  assert.equal(starts(), 0);
});

test("every command of the manifest is registered, and no other", () => {
  const manifest = JSON.parse(readFileSync(join(EXTENSION, "package.json"), "utf8")) as { contributes: { commands: { command: string }[] } };
  assert.deepEqual(manifest.contributes.commands.map(({ command }) => command).sort(), [...editor.commands.keys()].sort());
});

test("a completion is suggested where the cursor is, and the status bar tells of it", async () => {
  use(saying("1 + 1"));
  const document = new Document("x = ");
  const items = await editor.suggest(document);
  assert.deepEqual(items?.map(({ insertText, range }) => [insertText, range.start.character, range.isEmpty]), [["1 + 1", 4, true]]);
  assert.match(editor.statusText, /^\$\(sparkle\)/);
  assert.match(editor.items.at(-1)?.tooltip ?? "", /Engine: ready\nCompletion while typing: on\nLast answer: 5 tokens/);
});

test("a suggestion for a text that has changed meanwhile is not shown", async () => {
  use(saying("1 + 1", "&prefill_ms=30"));
  const document = new Document("y = ");
  const asked = editor.suggest(document);
  document.type("z");
  assert.equal(await asked, undefined);
});

test("the next key cancels the request before", async () => {
  use(ENDLESS);
  const { token, cancel } = cancellation();
  const asked = editor.suggest(new Document("a = "), {}, token as never);
  cancel();
  assert.equal(await asked, undefined);
});

test("typing is not completed where the editor or the settings say so, unless it is asked for", async () => {
  use(saying("2"));
  const suggests = async (more = {}) => (await editor.suggest(new Document(`b${Math.random()} = `), more)) !== undefined;
  for (const [name, off, on] of [
    ["editor.inlineSuggest.enabled", false, true],
    ["mlxSidecar.completion.enabled", false, true],
    ["mlxSidecar.completion.disabledLanguages", ["python"], []],
  ] as const) {
    editor.change(name, off);
    assert.deepEqual([await suggests(), await suggests({ triggerKind: 0 })], [false, true], name);
    editor.change(name, on);
    assert.equal(await suggests(), true);
  }
  assert.equal(await editor.suggest(new Document("c = ", "output")), undefined);
});

test("a suggestion goes on behind the item that is selected in the editor's list", async () => {
  use(saying("(1)"));
  const range = { start: new Position(0, 2), end: new Position(0, 4) };
  const items = await editor.suggest(new Document("a.ap"), { selectedCompletionInfo: { text: "append", range } as never });
  assert.equal(items?.[0]?.insertText, "append(1)");
});

test("a chat streams into its page, and is there again when the page comes back", async () => {
  use(saying("<think>hm</think>Four.", "&delay_ms=2"));
  const view = editor.showChat();
  assert.match(view.webview.html, /script-src 'nonce-[\w-]{20,}'/);
  view.say({ type: "ready" });
  view.say({ type: "send", text: "2 + 2?" });
  const last = await view.heard(answered);
  assert.ok(answered(last));
  assert.deepEqual(last.state.turns.map(({ text, reasoning }) => [text, reasoning]), [["2 + 2?", ""], ["Four.", "hm"]]);
  assert.ok(view.told.some(({ type }) => type === "delta"));
  const again = editor.showChat();
  again.say({ type: "ready" });
  assert.ok(answered(await again.heard(answered)));
  again.say({ type: "retry" });
  await again.heard((message) => message.type === "state" && message.state.turns.at(-1)?.id === 3);
  await again.heard((message) => answered(message) && message.state.turns.at(-1)?.id === 3);
});

test("an answer is stopped by the page, and a new chat has no turns", async () => {
  use(ENDLESS);
  editor.change("mlxSidecar.chat.maxTokens", 100_000);
  const view = editor.showChat();
  view.say({ type: "send", text: "Go on." });
  await view.heard(({ type }) => type === "delta");
  view.say({ type: "stop" });
  const last = await view.heard(answered);
  assert.equal(answered(last) && last.state.turns.at(-1)?.state, "stopped");
  await editor.run("newChat");
  await view.heard((message) => message.type === "state" && message.state.turns.length === 0);
});

test("code of the chat is copied, and inserted at the cursor", async () => {
  const view = editor.showChat();
  editor.activeTextEditor = new TextEditor(new Document("x = 1\n"));
  view.say({ type: "copy", text: "a" });
  view.say({ type: "insert", text: "y = 2\n" });
  await new Promise((resolve) => setImmediate(resolve));
  assert.deepEqual([editor.clipboard, editor.activeTextEditor.document.text], ["a", "x = 1\ny = 2\n"]);
  editor.activeTextEditor = undefined;
  view.say({ type: "insert", text: "z" });
  await editor.until(() => editor.errors.length > 0);
  assert.match(editor.errors[0]?.message ?? "", /no editor is open/);
});

test("a selection is explained in the chat", async () => {
  use("fake?echo=1");
  const view = editor.showChat();
  const open = (editor.activeTextEditor = new TextEditor(new Document("x = 1\ny = 2\n")));
  await editor.run("explainSelection");
  assert.match(editor.informed.at(-1) ?? "", /select some code/);
  open.select(new Position(0, 0), new Position(1, 5));
  await editor.run("explainSelection");
  const last = await view.heard(answered);
  assert.equal(answered(last) && last.state.turns[0]?.text, "Explain this code of a.py, lines 1 to 2:\n\n```python\nx = 1\ny = 2\n```");
  await editor.run("askAboutSelection");
  assert.ok(await view.heard((message) => message.type === "draft" && message.text.includes("y = 2")));
});

test("another model needs no other process, other options do", async () => {
  use(saying("3"));
  assert.equal((await editor.suggest(new Document("d = ")))?.[0]?.insertText, "3");
  use(saying("4"));
  assert.equal((await editor.suggest(new Document("d = ")))?.[0]?.insertText, "4");
  assert.equal(starts(), 1);
  editor.change("mlxSidecar.arguments", ["--engine", "fake", "--no-autoload"]);
  await editor.until(() => editor.statusText.startsWith("$(sparkle)") && starts() === 2);
  assert.equal(await editor.suggest(new Document("e = ")), undefined);
  await editor.until(() => editor.errors.length > 0);
  assert.deepEqual(editor.errors[0]?.buttons, ["Load It", "Choose Model…"]);
});

test("a model is loaded with its progress, and then it answers", async () => {
  const model = saying("5", "&load_ms=20");
  use(model);
  await editor.run("loadModel", model);
  assert.ok(editor.progress.some(({ message }) => /^reading .* %$/.test(message ?? "")));
  assert.equal((await editor.suggest(new Document("f = ")))?.[0]?.insertText, "5");
  editor.choices.push("fake?text=5");
  await editor.run("unloadModel");
  assert.match(editor.informed.at(-1) ?? "", /is unloaded, 1\.0 MB are free again/);
});

test("a model is chosen from those on this machine, and used at once", async () => {
  editor.choices.push("pocket");
  await editor.run("chooseModel");
  assert.equal(editor.settings.get("mlxSidecar.model"), "pocket");
  assert.match(editor.statusText, /pocket/);
});

test("stopped, typing does not start it again, and a command does", async () => {
  await editor.run("stop");
  assert.match(editor.statusText, /stopped/);
  assert.equal(await editor.suggest(new Document("g = ")), undefined);
  assert.match(editor.statusText, /stopped/);
  await editor.run("start");
  assert.match(editor.statusText, /^\$\(sparkle\)/);
});

test("a setting that does not fit is refused by its name, and the one before stays", async () => {
  editor.change("mlxSidecar.completion.maxTokens", "many");
  await editor.until(() => editor.errors.length > 0);
  assert.match(editor.errors[0]?.message ?? "", /mlxSidecar.completion.maxTokens must be a whole number from 1, not "many"/);
  editor.change("mlxSidecar.completion.maxTokens", 96);
});

test("a program that is not there is told of once while typing, with a way to choose it", async () => {
  editor.change("mlxSidecar.executable", "/nonexistent/mlx-sidecar");
  await editor.until(() => editor.errors.length > 0);
  assert.deepEqual(editor.errors[0]?.buttons, ["How to Install", "Choose Executable…"]);
  await editor.suggest(new Document("h = "));
  await editor.suggest(new Document("i = "));
  assert.equal(editor.errors.length, 1);
  editor.choices.push("Choose Executable…", program);
  await editor.run("start");
  await editor.until(() => editor.settings.get("mlxSidecar.executable") === program);
});
