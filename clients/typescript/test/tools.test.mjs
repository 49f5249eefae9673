import assert from "node:assert/strict";
import { test } from "node:test";
import { calls, InvalidArguments, parsed, runTools, tool } from "../dist/index.js";
import { ENDLESS, fake, rest, scripted } from "./support.mjs";

const messages = [{ role: "user", content: "How much is it?" }];
const add = tool({
  name: "add",
  description: "Add two numbers.",
  parameters: {
    type: "object",
    properties: { a: { type: "integer" }, b: { anyOf: [{ type: "integer" }, { type: "null" }] } },
    required: ["a"],
    additionalProperties: false,
  },
  run: ({ a, b }) => a + (b ?? 0),
});

/** A script of a sidecar that answers each generation with the next of `rounds`: its deltas, and members of its result. */
const answers = (...rounds) => `
  const asked = [];
  for (const [deltas, result] of ${JSON.stringify(rounds)}) {
    const request = await read();
    asked.push(request.params);
    const { stream } = request.params;
    deltas.forEach((delta, seq) => {
      write({ method: "stream/delta", params: { stream, seq, offset: 0, text: "", tokens: [1], ...delta } });
    });
    answer(request, { text: "", tokens: [1], finish_reason: "stop", usage: {}, timing: {}, seed: 1, ...result });
  }
  answer(await read(), { asked });`;

const calling = (...named) => [
  [],
  {
    finish_reason: "tool_calls",
    tool_calls: named.map(([name, args], index) => ({ id: `id${index}`, name, arguments: args })),
  },
];
const FIVE = calling(["add", '{"a": 2, "b": 3}']);
const ANSWER = [[{ text: "It is 5." }], { text: "It is 5." }];
const CHANNELS = [
  [
    { reasoning: "Let me ", reasoning_offset: 0 },
    { reasoning: "add.", reasoning_offset: 7 },
    { text: "Wait: " },
    { tool_calls: [{ index: 0, id: "id0", name: "add", arguments: '{"a": ' }] },
    { tool_calls: [{ index: 0, arguments: "2}" }] },
  ],
  {
    text: "Wait: ",
    finish_reason: "tool_calls",
    reasoning: "Let me add.",
    tool_calls: [{ id: "id0", name: "add", arguments: '{"a": 2}' }],
  },
];

test("events are the deltas by their channels, and calls are values", async (t) => {
  const sidecar = await scripted(t, answers(CHANNELS));
  const stream = sidecar.generate({ model: "pocket", messages, tools: [add] });
  assert.deepEqual(await rest(stream.events()), [
    { type: "reasoning", text: "Let me " },
    { type: "reasoning", text: "add." },
    { type: "text", text: "Wait: " },
    { type: "tool_call", index: 0, id: "id0", name: "add", arguments: '{"a": ' },
    { type: "tool_call", index: 0, id: "id0", name: "add", arguments: "2}" },
  ]);
  assert.equal(stream.reasoning, "Let me add.");
  const [call] = await stream.calls;
  assert.deepEqual([call.id, call.name, call.parsed()], ["id0", "add", { a: 2 }]);
  const { asked } = await sidecar.request("ping", {});
  assert.deepEqual(asked[0].tools, [{ type: "function", function: JSON.parse(JSON.stringify(add)).function }]);
  assert.deepEqual(Object.keys(asked[0].tools[0].function), ["name", "description", "parameters"]);
});

test("without echo_text the reasoning of the result is that of the deltas", async (t) => {
  const sidecar = await scripted(t, answers([CHANNELS[0], { text: null }]));
  const { text, reasoning } = await sidecar.generate({ model: "x", messages, echo_text: false }).result;
  assert.deepEqual([text, reasoning], ["Wait: ", "Let me add."]);
});

test("leaving the events cancels", async (t) => {
  const sidecar = await fake(t);
  const stream = sidecar.generate({ model: ENDLESS, messages });
  for await (const event of stream.events()) {
    assert.equal(event.type, "text");
    break;
  }
  assert.equal((await stream.result).finish_reason, "cancelled");
});

test("arguments are checked when they are looked at", () => {
  const of = (args, tools = [add]) => calls({ tool_calls: [{ id: "i", name: "add", arguments: args }] }, tools)[0];
  const faults = {
    "{}": "add: a is missing",
    '{"a": 1.5}': "add: a is no integer",
    '{"a": 1, "b": "2"}': "add: b is no integer, or b is no null",
    '{"a": 1, "c": 2}': "add: c is not known",
    "[1]": "add: it is no object",
  };
  for (const [args, message] of Object.entries(faults)) {
    assert.throws(() => of(args).parsed(), (error) => error instanceof InvalidArguments && error.message === message);
  }
  assert.deepEqual(of('{"a": 1, "b": null}').parsed(), { a: 1, b: null });
  assert.throws(() => of("{}", []).parsed(), /there is no tool of this name/);
  const plain = { type: "function", function: { name: "add", parameters: { type: "object", required: ["q"] } } };
  assert.throws(() => of("{}", [plain]).parsed(), /q is missing/);
});

test("schemas are followed as their types are", () => {
  const parameters = {
    type: "object",
    properties: {
      kind: { const: "x" },
      mode: { enum: ["p", "q"] },
      list: { type: "array", items: { type: ["number", "string"] } },
      map: { type: "object", additionalProperties: { type: "boolean" } },
    },
  };
  const tools = [tool({ name: "f", parameters, run() {} })];
  const given = (args) => calls({ tool_calls: [{ id: "i", name: "f", arguments: JSON.stringify(args) }] }, tools)[0];
  assert.deepEqual(given({ kind: "x", mode: "q", list: [1, "a"], map: { a: true }, other: 1 }).parsed().list, [1, "a"]);
  assert.throws(() => given({ kind: "y" }).parsed(), /kind is not "x"/);
  assert.throws(() => given({ mode: "r" }).parsed(), /mode is none of \["p","q"\]/);
  assert.throws(() => given({ list: [1, null] }).parsed(), /list\[1\] is no number or string/);
  assert.throws(() => given({ map: { a: 1 } }).parsed(), /map\.a is no boolean/);
});

test("calls are run and their results told until there is an answer", async (t) => {
  const sidecar = await scripted(t, answers(calling(["add", '{"a": 2, "b": 3}'], ["add", '{"a": 4}']), ANSWER));
  const heard = [];
  const run = await runTools(sidecar, { model: "x", messages, tools: [add], tool_choice: "required" }, {
    onEvent: (event) => heard.push(event),
  });
  assert.deepEqual([run.ended, run.rounds, run.result.text], ["answered", 2, "It is 5."]);
  assert.deepEqual(run.outcomes.map(({ content }) => content), ["5", "4"]);
  assert.deepEqual(heard, [...run.outcomes, { type: "text", text: "It is 5." }]);
  const named = { name: "add", arguments: '{"a": 2, "b": 3}' };
  assert.deepEqual(run.messages[1].tool_calls[0], { id: "id0", type: "function", function: named });
  assert.deepEqual(run.messages[2], { role: "tool", tool_call_id: "id0", name: "add", content: "5" });
  assert.deepEqual(run.messages.at(-1), { role: "assistant", content: "It is 5." });
  assert.equal(messages.length, 1);
  const { asked } = await sidecar.request("ping", {});
  assert.deepEqual(asked.map(({ tool_choice }) => tool_choice), ["required", "auto"]);
  assert.deepEqual(asked[1].messages, run.messages.slice(0, -1));
});

test("a form is asked for wherever an answer may come", async (t) => {
  const form = { type: "json_object" };
  const answer = [[], { text: '{"euros": 5}', response_format: { complete: true, forced_tokens: 0, masked_steps: 0 } }];
  const sidecar = await scripted(t, answers(FIVE, FIVE, answer));
  const params = { model: "x", messages, tools: [add], tool_choice: ["required", "none"], response_format: form };
  const run = await runTools(sidecar, params);
  assert.deepEqual(parsed(run.result, form), { euros: 5 });
  const { asked } = await sidecar.request("ping", {});
  assert.deepEqual(asked.map(({ response_format }) => response_format), [undefined, form, form]);
});

test("a call that fails is told to the model and to the host", async (t) => {
  const fails = tool({
    name: "fails",
    parameters: { type: "object", properties: {} },
    run: async () => {
      throw new RangeError("too much");
    },
  });
  const sidecar = await scripted(t, answers(calling(["fails", "{}"], ["add", "{}"], ["ad", "{}"]), ANSWER));
  const { outcomes, messages: said } = await runTools(sidecar, { model: "x", messages, tools: [add, fails] });
  const contents = ["error: RangeError: too much", "error: InvalidArguments: add: a is missing"];
  assert.deepEqual(outcomes.map(({ content }) => content), [...contents, "error: there is no tool ad; there are: add, fails"]);
  assert.ok(outcomes[0].error instanceof RangeError);
  assert.equal(said[2].content, contents[0]);
});

test("a call that is declined does not run", async (t) => {
  const sidecar = await scripted(t, answers(FIVE, ANSWER));
  const { outcomes } = await runTools(sidecar, { model: "x", messages, tools: [add] }, { onCall: async () => false });
  assert.equal(outcomes[0].content, "error: the user does not want this call");
});

test("rounds are bounded, and the end says so", async (t) => {
  const sidecar = await scripted(t, answers(FIVE, FIVE));
  const run = await runTools(sidecar, { model: "x", messages, tools: [add] }, { maxRounds: 2 });
  assert.deepEqual([run.ended, run.rounds, run.outcomes.length], ["max_rounds", 2, 2]);
  assert.deepEqual(run.messages.map(({ role }) => role), ["user", "assistant", "tool", "assistant", "tool"]);
  await assert.rejects(runTools(sidecar, { model: "x", messages, tools: [add] }, { maxRounds: 0 }), RangeError);
  await assert.rejects(runTools(sidecar, { model: "x", messages, tools: [add, add] }), /two tools have the same name/);
});

test("calls of an answer that is not whole are not run, and the end says why", async (t) => {
  const incomplete_tool_calls = [{ text: '<tool_call>{"na', index: 1 }];
  const { tool_calls } = FIVE[1];
  const ends = [
    [{ finish_reason: "length", tool_calls, incomplete_tool_calls }, "length"],
    [{ finish_reason: "stop", tool_call_error: "no JSON" }, "tool_call_error"],
    [{ finish_reason: "stop", tool_calls, incomplete_tool_calls, tool_call_error: "no JSON" }, "tool_call_error"],
  ];
  const sidecar = await scripted(t, answers(...ends.map(([result]) => [[], result])));
  for (const [, end] of ends) {
    const run = await runTools(sidecar, { model: "x", messages, tools: [add] });
    assert.deepEqual([run.ended, run.outcomes, run.messages], [end, [], messages]);
  }
});

test("aborting cancels the generation, and leaves a call that runs", async (t) => {
  const sidecar = await fake(t);
  const controller = new AbortController();
  const reason = new Error("enough");
  const params = { model: ENDLESS, messages, tools: [add] };
  const options = { signal: controller.signal, onEvent: () => controller.abort(reason) };
  await assert.rejects(runTools(sidecar, params, options), reason);

  const again = new AbortController();
  let seen;
  const waits = tool({
    name: "waits",
    parameters: { type: "object" },
    run: (_, { signal }) => {
      seen = signal;
      again.abort(reason);
      return new Promise(() => {});
    },
  });
  const calls = await scripted(t, answers(calling(["waits", "{}"]), ANSWER));
  await assert.rejects(runTools(calls, { ...params, tools: [waits] }, { signal: again.signal }), reason);
  assert.equal(seen, again.signal);
});

test("a model is told what its call gave, and answers", async (t) => {
  const call = '<think>\nHm.\n</think>\n\nLet me see.\n<tool_call>\n{"name": "add", "arguments": {"a": 2, "b": 3}}\n</tool_call>';
  const model = `fake?text=${encodeURIComponent(call)}&then=${encodeURIComponent("It is 5.")}`;
  const sidecar = await fake(t);
  const heard = [];
  const run = await runTools(sidecar, { model, messages, tools: [add] }, { onEvent: (event) => heard.push(event) });
  assert.deepEqual([run.ended, run.result.text, run.rounds, run.outcomes[0].content], ["answered", "It is 5.", 2, "5"]);
  const joined = (type, member) => heard.filter((event) => event.type === type).map((event) => event[member]).join("");
  assert.equal(joined("tool_call", "arguments"), run.outcomes[0].call.arguments);
  assert.equal(joined("reasoning", "text"), run.messages[1].reasoning_content);
  assert.equal(joined("text", "text"), "Let me see.It is 5.");
  const cut = await runTools(sidecar, { model, messages, tools: [add], max_tokens: call.indexOf("2") + 1 });
  assert.deepEqual([cut.ended, cut.outcomes, cut.result.incomplete_tool_calls[0].name], ["length", [], "add"]);
});
