// The page of the chat, as it is packaged, in a document without a browser.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { beforeEach, test } from "node:test";
import { Window } from "happy-dom";
import { chatPage } from "../src/core/chat-page.js";
import type { Turn } from "../src/core/conversation.js";
import type { FromView, ToView } from "../src/core/view-messages.js";

const script = readFileSync(new URL("../../dist/chat.js", import.meta.url), "utf8");

let page: Window;
let sent: FromView[];

beforeEach(() => {
  sent = [];
  page = new Window();
  page.document.write(chatPage({ cspSource: "x", script: "", style: "", nonce: "n" }).replace(/<(link|script)\b[^>]*>(<\/script>)?/g, ""));
  const acquire = () => ({ postMessage: (message: FromView) => sent.push(message), getState: () => undefined, setState: () => {} });
  const names = ["window", "document", "acquireVsCodeApi", "requestAnimationFrame", "cancelAnimationFrame"];
  new Function(...names, script)(page, page.document, acquire, (draw: () => void) => (draw(), 1), () => {});
});

function tell(message: ToView): void {
  page.dispatchEvent(new page.MessageEvent("message", { data: message }));
}

function show(turns: Turn[], isAnswering = false): void {
  tell({ type: "state", state: { turns, isAnswering, model: "pocket" } });
}

function answer(changes: Partial<Turn> = {}): Turn {
  return { id: 2, role: "assistant", text: "", reasoning: "", state: "done", model: "pocket", ...changes };
}

const QUESTION: Turn = { id: 1, role: "user", text: "Why?", reasoning: "", state: "done" };
const all = (selector: string) => [...page.document.querySelectorAll(selector)];
const click = (label: string) => (all("button").find((button) => button.textContent === label) as { click(): void } | undefined)?.click();

test("it asks for the chat when it is there", () => {
  assert.deepEqual(sent, [{ type: "ready" }]);
});

test("an answer grows by its pieces, and its reasoning is folded", () => {
  show([QUESTION, answer({ state: "answering", text: "Be", reasoning: "hm" })], true);
  tell({ type: "delta", id: 2, text: "cause **so**.", reasoning: "!" });
  assert.equal(all(".assistant .body")[0]?.textContent.trim(), "Because so.");
  assert.equal(all(".assistant strong")[0]?.textContent, "so");
  assert.equal(all(".thoughts")[1]?.textContent, "hm!");
  assert.equal(all("details")[1]?.hasAttribute("open"), false);
});

test("a question is sent by Enter, not by Shift and Enter, and not while an answer comes", () => {
  const input = page.document.getElementById("input") as unknown as { value: string; dispatchEvent(event: unknown): void };
  const press = (shiftKey: boolean) => input.dispatchEvent(new page.KeyboardEvent("keydown", { key: "Enter", shiftKey }));
  input.value = "Why?";
  press(true);
  assert.equal(sent.length, 1);
  press(false);
  assert.deepEqual([sent[1], input.value], [{ type: "send", text: "Why?" }, ""]);
  show([QUESTION, answer({ state: "waiting" })], true);
  input.value = "And?";
  press(false);
  assert.equal(sent.length, 2);
  click("Stop");
  assert.deepEqual(sent.at(-1), { type: "stop" });
});

test("blocks of code can be copied and inserted", () => {
  show([QUESTION, answer({ text: "Like this:\n\n```py\nx = 1\nprint(x)\n```\n" })]);
  click("Insert at Cursor");
  click("Copy");
  assert.deepEqual(sent.slice(1), ["insert", "copy"].map((type) => ({ type, text: "x = 1\nprint(x)" })));
});

test("markup, scripts and images of a model are text", () => {
  show([QUESTION, answer({ text: '<img src=x onerror=alert(1)> <script>alert(2)</script> [a](javascript:alert(3)) ![b](https://x/y.png)' })]);
  assert.deepEqual(all("#turns img, #turns script, #turns a[href^=javascript]"), []);
  assert.match(all(".assistant .body")[0]?.textContent ?? "", /<script>/);
});

test("an error says why, and its remedies can be clicked", () => {
  const remedy = { label: "Choose Model…", action: "chooseModel" } as const;
  show([QUESTION, answer({ state: "failed", advice: { kind: "model_unsupported", message: "no such layer", remedies: [remedy] } })]);
  assert.equal(all("[role=alert]")[0]?.textContent, "no such layer");
  click("Choose Model…");
  click("Retry");
  assert.deepEqual(sent.slice(1), [{ type: "remedy", remedy }, { type: "retry" }]);
});

test("a stopped and a cut answer say so, with the speed", () => {
  show([QUESTION, answer({ state: "stopped", text: "Be", speed: { model: "m", tokens: 9, tokensPerSecond: 42.4, promptTokens: 1, cachedTokens: 0 } })]);
  assert.match(all(".assistant .foot")[0]?.textContent ?? "", /^Stopped\.9 tokens, 42 tokens\/s/);
  show([QUESTION, answer({ state: "length", text: "Be" })]);
  assert.match(all(".assistant .foot")[0]?.textContent ?? "", /^Cut off/);
});

test("a new chat has no turns", () => {
  show([QUESTION, answer({ text: "Be" })]);
  show([]);
  assert.deepEqual(all(".turn"), []);
});

test("a draft of the extension stands in the input", () => {
  tell({ type: "draft", text: "```js\n1\n```" });
  assert.equal((page.document.getElementById("input") as unknown as { value: string }).value, "```js\n1\n```");
});
