// The provider under the real AI SDK, over the sidecar's fake engine.
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { embedMany, generateObject, generateText, Output, rerank, stepCountIs, streamText, tool } from "ai";
import { Sidecar } from "mlx-sidecar";
import { z } from "zod";
import { createMlxSidecar } from "../dist/index.js";

const named = process.env["MLX_SIDECAR_TEST_COMMAND"];
const command = named === undefined ? ["mlx-sidecar"] : JSON.parse(named);
const args = ["--engine", "fake"];
const mlx = createMlxSidecar({ command, args, onLog: () => {} });
after(() => mlx.close());

const says = (text, options = "") => mlx(`fake?text=${encodeURIComponent(text)}${options}`);
const prompt = "Hello";
const ENDLESS = "fake?tokens=100000&delay_ms=1&context=200000";

const calling = (name, input) => `<tool_call>\n${JSON.stringify({ name, arguments: input })}\n</tool_call>`;
const agent = (name, input, then) => says(calling(name, input), `&then=${encodeURIComponent(then)}`);
const add = tool({
  description: "Add two numbers.",
  inputSchema: z.object({ a: z.number(), b: z.number() }),
  execute: ({ a, b }) => ({ sum: a + b }),
});

test("an answer streams, and its usage is that of the sidecar", async () => {
  const result = streamText({ model: says("one two three"), prompt });
  const pieces = [];
  for await (const piece of result.textStream) pieces.push(piece);
  assert.equal(pieces.join(""), "one two three");
  assert.equal(await result.finishReason, "stop");
  const { inputTokens, outputTokens } = await result.usage;
  assert.equal(outputTokens, 13);
  assert.ok(inputTokens > prompt.length);
  assert.equal(typeof (await result.providerMetadata).mlxSidecar.seed, "number");
});

test("an answer in one piece is the same", async () => {
  const { text, finishReason, usage, warnings } = await generateText({ model: says("one"), prompt, system: "Be short." });
  assert.deepEqual([text, finishReason, usage.outputTokens, warnings], ["one", "stop", 3, []]);
});

test("every option of a call is the protocol's", async () => {
  const { steps } = await generateText({
    model: says("abc"), prompt, maxOutputTokens: 2, temperature: 0.5, topP: 0.9, topK: 5, presencePenalty: 0.1,
    frequencyPenalty: 0.2, stopSequences: ["x"], seed: 7, providerOptions: { mlxSidecar: { min_p: 0.1, priority: "high" } },
  });
  const { messages, model, ...params } = steps[0].request.body;
  assert.deepEqual(params, {
    max_tokens: 2, temperature: 0.5, top_p: 0.9, top_k: 5, presence_penalty: 0.1, frequency_penalty: 0.2, stop: ["x"],
    seed: 7, min_p: 0.1, priority: "high",
  });
  assert.equal(steps[0].finishReason, "length");
  assert.equal(steps[0].providerMetadata.mlxSidecar.seed, 7);
});

test("an agent of two steps calls a tool and answers with its result", async () => {
  const model = agent("add", { a: 2, b: 3 }, "It is 5.");
  const asked = { model, prompt, tools: { add }, stopWhen: stepCountIs(4) };
  const { text, steps } = await generateText(asked);
  assert.equal(text, "It is 5.");
  assert.deepEqual(steps.map(({ finishReason }) => finishReason), ["tool-calls", "stop"]);
  assert.deepEqual(steps[0].toolResults[0].output, { sum: 5 });
  const [, assistant, told] = steps[1].request.body.messages;
  assert.deepEqual(JSON.parse(assistant.tool_calls[0].function.arguments), { a: 2, b: 3 });
  assert.deepEqual([told.role, told.tool_call_id, told.content], ["tool", assistant.tool_calls[0].id, '{"sum":5}']);
});

test("the same agent streams its call, the result and the answer", async () => {
  const model = agent("add", { a: 2, b: 3 }, "It is 5.");
  const parts = [];
  const { fullStream } = streamText({ model, prompt, tools: { add }, stopWhen: stepCountIs(4) });
  for await (const part of fullStream) parts.push(part);
  const kinds = parts.map(({ type }) => type);
  for (const kind of ["tool-input-start", "tool-input-delta", "tool-input-end", "tool-call", "tool-result", "text-delta"]) {
    assert.ok(kinds.includes(kind), kind);
  }
  const [start] = parts.filter(({ type }) => type === "tool-input-start");
  const [call] = parts.filter(({ type }) => type === "tool-call");
  assert.deepEqual([call.toolCallId, call.input], [start.id, { a: 2, b: 3 }]);
  const fragments = parts.filter(({ type }) => type === "tool-input-delta").map(({ delta }) => delta);
  assert.deepEqual(JSON.parse(fragments.join("")), { a: 2, b: 3 });
});

test("a call can be required, and its arguments then are valid", async () => {
  const look = tool({ inputSchema: z.object({ at: z.enum(["sun", "moon"]) }) });
  const asked = { model: says(calling("look", { at: "mars" })), prompt, tools: { look } };
  for (const toolChoice of ["required", { type: "tool", toolName: "look" }]) {
    const { toolCalls } = await generateText({ ...asked, toolChoice });
    assert.deepEqual([toolCalls[0].toolName, toolCalls[0].input], ["look", { at: "moon" }]);
  }
  const none = await generateText({ ...asked, model: says("no call"), toolChoice: "none" });
  assert.deepEqual([none.text, none.toolCalls], ["no call", []]);
});

test("reasoning is a channel of its own, in both ways", async () => {
  const model = says("<think>Let me see.</think>Yes.");
  const whole = await generateText({ model, prompt });
  assert.deepEqual([whole.reasoningText, whole.text], ["Let me see.", "Yes."]);
  const streamed = streamText({ model, prompt });
  const kinds = new Set();
  for await (const { type } of streamed.fullStream) kinds.add(type);
  assert.ok(kinds.has("reasoning-start") && kinds.has("reasoning-delta") && kinds.has("reasoning-end"));
  assert.deepEqual([await streamed.reasoningText, await streamed.text], ["Let me see.", "Yes."]);
  assert.ok((await streamed.usage).reasoningTokens > 0);
});

test("an object has its schema, whatever the model would have said", async () => {
  const schema = z.object({ name: z.string(), tags: z.array(z.enum(["a", "b"])) });
  const { object } = await generateObject({ model: says('{"name": "Ada", "tags": ["a"]}'), prompt, schema });
  assert.deepEqual(object, { name: "Ada", tags: ["a"] });
  const kept = await generateText({ model: says('{"name": "Ada", "tags": ["z"]}'), prompt, output: Output.object({ schema }) });
  assert.ok(schema.safeParse(kept.output).success);
  const streamed = streamText({ model: says('{"name": "Ada", "tags": []}'), prompt, output: Output.object({ schema }) });
  let last;
  for await (const partial of streamed.partialOutputStream) last = partial;
  assert.deepEqual(last, { name: "Ada", tags: [] });
});

test("an abort cancels in the engine", async (t) => {
  const sidecar = await Sidecar.spawn({ command, args, onLog: () => {} });
  t.after(() => sidecar.close());
  const mine = createMlxSidecar({ sidecar });
  const controller = new AbortController();
  const kinds = [];
  const { fullStream } = streamText({ model: mine(ENDLESS), prompt, abortSignal: controller.signal });
  for await (const { type } of fullStream) {
    kinds.push(type);
    if (type === "text-delta") controller.abort();
  }
  assert.equal(kinds.at(-1), "abort");
  const whole = generateText({ model: mine(ENDLESS), prompt, abortSignal: AbortSignal.timeout(1) });
  await assert.rejects(whole, { name: "TimeoutError" });
  await sidecar.unload({ model: ENDLESS }); // refused as in use if they ran on
  await mine.close(); // leaves a sidecar that it did not start
  await sidecar.ping();
});

test("a stream that its reader leaves is cancelled", async () => {
  const { stream } = await mlx(ENDLESS).doStream({ prompt: [{ role: "user", content: [{ type: "text", text: "x" }] }] });
  const reader = stream.getReader();
  await reader.read();
  await reader.cancel();
  assert.deepEqual(await reader.read(), { done: true, value: undefined });
});

test("an error has its kind, and only a retryable one is tried again", async () => {
  const failing = generateText({ model: mlx("fake?fail_load=model_not_found"), prompt });
  await assert.rejects(failing, (error) => {
    assert.equal(error.name, "AI_APICallError");
    assert.deepEqual([error.isRetryable, error.data.kind], [false, "model_not_found"]);
    return /^model_not_found: /.test(error.message);
  });
  const broken = streamText({ model: mlx("fake?fail_after=3"), prompt, onError: () => {} });
  const errors = [];
  for await (const part of broken.fullStream) if (part.type === "error") errors.push(part.error.data.kind);
  assert.deepEqual(errors, ["internal_error"]);
  assert.deepEqual([await broken.finishReason, (await broken.usage).outputTokens], ["error", 3]);
});

test("what cannot be honoured is refused by its name", async () => {
  const data = new Uint8Array([137, 80, 78, 71]);
  const picture = [{ role: "user", content: [{ type: "file", data, mediaType: "image/png" }] }];
  await assert.rejects(generateText({ model: says("x"), messages: picture }), /parts of type file in messages of user/);
  const asked = (own) => generateText({ model: says("x"), prompt, maxRetries: 0, providerOptions: { mlxSidecar: own } });
  await assert.rejects(asked({ max_tokens: 5 }), /max_tokens cannot be given this way/);
  await assert.rejects(asked({ min_pp: 5 }), /invalid_params: .*min_pp/);
  assert.throws(() => mlx.imageModel("x"), { name: "AI_NoSuchModelError" });
});

test("texts become vectors, and documents come in order", async () => {
  const model = mlx.embeddingModel("fake?dimensions=8");
  const { embeddings, usage } = await embedMany({ model, values: ["a b", "b a", "c"] });
  assert.deepEqual(embeddings[0], embeddings[1]);
  assert.equal(embeddings[2].length, 8);
  assert.ok(usage.tokens > 0);
  const documents = ["the engine", "a dog barks", "dog"];
  const { ranking } = await rerank({ model: mlx.rerankingModel("fake"), query: "dog", documents, topN: 2 });
  assert.deepEqual(ranking.map(({ originalIndex }) => originalIndex).sort(), [1, 2]);
});

test("a sidecar that does not start is tried again by the next call", async (t) => {
  const options = { command: ["/nowhere/mlx-sidecar"], args, onLog: () => {} };
  const late = createMlxSidecar(options);
  t.after(() => late.close());
  await assert.rejects(generateText({ model: late("fake"), prompt }), { name: "ExecutableNotFound" });
  options.command = command;
  assert.equal((await generateText({ model: late("fake?text=there"), prompt })).text, "there");
});
