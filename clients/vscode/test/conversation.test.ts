import assert from "node:assert/strict";
import { test } from "node:test";
import { Conversation, type Turn } from "../src/core/conversation.js";
import type { Settings } from "../src/core/settings.js";
import { deferred, ENDLESS, loader, saying, settingsWith, sharedEngine } from "./support.js";

const engine = sharedEngine();

/** A conversation, what its view was told, and a promise of the first piece. */
function conversationFor(changes: Partial<Settings>, onDelta = async (_: Turn, _text: string) => {}) {
  let settings = settingsWith(changes);
  const states: string[] = [];
  const running: number[] = [];
  const conversation: Conversation = new Conversation(engine, loader(), () => settings, {
    onChange: () => states.push(conversation.turns.at(-1)?.state ?? "none"),
    onDelta,
    onResult: () => {},
    onRunning: (count) => running.push(count),
  });
  const change = (more: Partial<Settings>) => (settings = settingsWith({ ...changes, ...more }));
  return { conversation, states, running, change };
}

test("an answer streams, and its reasoning is apart from its text", async () => {
  const pieces: string[] = [];
  const { conversation, states, running } = conversationFor(
    { model: saying("<think>two and two</think>Four.", "&delay_ms=3") },
    async (_, text) => void pieces.push(text),
  );
  await conversation.ask("2 + 2?");
  const [question, answer] = conversation.turns;
  assert.deepEqual([question?.text, answer?.text, answer?.reasoning, answer?.state], ["2 + 2?", "Four.", "two and two", "done"]);
  assert.ok(pieces.length > 1);
  assert.deepEqual([states, running], [["waiting", "answering", "done"], [1, 0]]);
  assert.ok((answer?.speed?.tokens ?? 0) > 5);
});

test("earlier turns and the system message are sent, reasoning too", async () => {
  const { conversation, change } = conversationFor({ model: saying("<think>hm</think>Four."), "chat.system": "Be brief." });
  await conversation.ask("2 + 2?");
  change({ model: "fake?echo=1" });
  await conversation.ask("Sure?");
  const sent = conversation.turns.at(-1)?.text ?? "";
  for (const part of ["Be brief.", "2 + 2?", "Four.", "Sure?"]) assert.ok(sent.includes(part), part);
});

test("stopping keeps the text so far", async () => {
  const begun = deferred();
  const { conversation } = conversationFor({ model: ENDLESS, "chat.maxTokens": 100_000 }, async () => begun.resolve());
  const asking = conversation.ask("Go on.");
  await begun.promise;
  conversation.stop();
  await asking;
  const answer = conversation.turns.at(-1);
  assert.equal(answer?.state, "stopped");
  assert.ok(answer.text.length > 0);
});

test("stopping before anything has come ends it as well", async () => {
  const { conversation } = conversationFor({ model: ENDLESS });
  const asking = conversation.ask("Go on.");
  conversation.stop();
  await asking;
  assert.equal(conversation.turns.at(-1)?.state, "stopped");
});

test("a slow view slows the engine down", async () => {
  const [first, shown] = [deferred(), deferred()];
  const { conversation } = conversationFor({ model: ENDLESS, "chat.maxTokens": 100_000 }, () => (first.resolve(), shown.promise));
  const asking = conversation.ask("Go on.");
  await first.promise;
  const sidecar = await engine.sidecar();
  // Once the window is full the engine sets the stream aside.
  while ((await sidecar.stats()).gauges["parked"] === 0) await sidecar.ping();
  conversation.stop();
  shown.resolve();
  await asking;
  assert.equal(conversation.turns.at(-1)?.state, "stopped");
});

test("an answer that is cut off says so", async () => {
  const { conversation } = conversationFor({ model: ENDLESS, "chat.maxTokens": 3 });
  await conversation.ask("Go on.");
  assert.equal(conversation.turns.at(-1)?.state, "length");
});

test("a failed answer has advice, and a retry with another model takes its place", async () => {
  const { conversation, change } = conversationFor({ model: "fake?fail_load=model_unsupported" });
  await conversation.ask("Hello?");
  assert.equal(conversation.turns.at(-1)?.state, "failed");
  assert.deepEqual(conversation.turns.at(-1)?.advice?.remedies.map(({ action }) => action), ["chooseModel"]);
  change({ model: saying("Hello.") });
  await conversation.retry();
  assert.deepEqual(conversation.turns.map(({ text }) => text), ["Hello?", "Hello."]);
});

test("an answer that broke off keeps its text and says why", async () => {
  const { conversation } = conversationFor({ model: "fake?tokens=50&fail_after=5&delay_ms=1" });
  await conversation.ask("Hello?");
  const answer = conversation.turns.at(-1);
  assert.deepEqual([answer?.state, answer?.advice?.kind, answer?.text.length], ["failed", "internal_error", 5]);
});

test("a question without an answer is not sent again", async () => {
  const { conversation, change } = conversationFor({ model: "fake?fail_load=model_unsupported" });
  await conversation.ask("First?");
  change({ model: "fake?echo=1" });
  await conversation.ask("Second?");
  assert.ok(!conversation.turns.at(-1)?.text.includes("First?"));
});

test("one answer at a time, and an empty question is none", async () => {
  const { conversation } = conversationFor({ model: saying("Yes.") });
  await Promise.all([conversation.ask("One?"), conversation.ask("Two?"), conversation.retry()]);
  await conversation.ask("  ");
  assert.equal(conversation.turns.length, 2);
});

test("a new chat leaves the answer that is coming, and can be asked at once", async () => {
  const begun = deferred();
  const { conversation, change, running } = conversationFor({ model: ENDLESS }, async () => begun.resolve());
  const asking = conversation.ask("Go on.");
  await begun.promise;
  conversation.clear();
  assert.equal(conversation.turns.length, 0);
  change({ model: saying("Yes.") });
  await Promise.all([asking, conversation.ask("Are you there?")]);
  assert.deepEqual(conversation.turns.map(({ text }) => text), ["Are you there?", "Yes."]);
  assert.equal(running.at(-1), 0);
});

test("an answer outlives the crash of its engine", async () => {
  const { conversation } = conversationFor({ model: saying("still here", "&crash_after=3") });
  await conversation.ask("Are you there?");
  assert.deepEqual([conversation.turns.at(-1)?.text, conversation.turns.at(-1)?.state], ["still here", "done"]);
});
