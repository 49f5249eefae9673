// Answers the questions of questions.py for node-llama-cpp: a line {"key", "cell"} for each. Its argument is JSON.
const { package: library, gguf, task, form, preamble, long } = JSON.parse(process.argv[2]);
const { ChatMLChatWrapper, getLlama, LlamaChatSession, TokenBias } = await import(library);

const QUESTION = "What is mlx-sidecar?";
const llama = await getLlama({ gpu: false, build: "never", logLevel: "error", maxThreads: 1 });
const model = await llama.loadModel({ modelPath: gguf });
const context = await model.createContext({ sequences: 8, contextSize: 4096, threads: 1 });
const chatWrapper = new ChatMLChatWrapper(); // the model's format; to find it out takes long, for each session anew
const endless = new TokenBias(model.tokenizer);
for (const token of [0, 2]) endless.set(token, "never");

const tell = (key, cell) => console.log(JSON.stringify({ key, cell }));

// One answer in a sequence of its own.
async function ask(question, options = {}, systemPrompt = "") {
  const contextSequence = context.getSequence();
  const session = new LlamaChatSession({ contextSequence, chatWrapper, systemPrompt });
  try {
    return await session.prompt(question, { maxTokens: 24, ...options });
  } finally {
    session.dispose();
    await contextSequence.dispose();
  }
}

if (task === "killed") {
  await ask(QUESTION, { maxTokens: 400, tokenBias: endless, onTextChunk: () => tell("begun", "") });
  tell("ended", "");
  process.exit();
}

const grammar = await llama.createGrammarForJsonSchema(form);
const text = await ask(QUESTION, { grammar, maxTokens: 400 });
let value;
try {
  value = JSON.parse(text);
} catch (error) {
  if (!(error instanceof SyntaxError)) throw error;
}
const isForm = value && Object.keys(value).sort().join() === "name,warm" && typeof value.warm === "boolean";
tell("form", isForm ? "honoured" : "no effect");

try {
  await ask(QUESTION, { noSuchParameter: 1 });
  tell("unknown", "no effect");
} catch (error) {
  tell("unknown", `refused (${error.name})`);
}

const drawn = (seed) => ask(QUESTION, { temperature: 1.5, seed });
const alone = await drawn(7);
tell("seed", (await drawn(7)) === alone ? "the same text" : "another text");
const batch = await Promise.all([0, 1, 2, 3, 4, 5, 6, 7].map(drawn));
tell("seed_in_a_batch", batch[7] === alone ? "the same text" : "another text");

let ended = false;
let short;
const streaming = ask(QUESTION, {
  maxTokens: long,
  tokenBias: endless,
  temperature: 1,
  onTextChunk: () => {
    short ??= ask(QUESTION, { maxTokens: 4 }).then(() => !ended);
  },
}).then(() => {
  ended = true;
});
await streaming;
tell("together", (await short) ? "side by side" : "one after the other");

// The second question of another conversation in the same sequence, which keeps what it has computed.
const kept = context.getSequence();
let computed;
let length;
for (const question of ["What is a delta?", "What is a window?"]) {
  const session = new LlamaChatSession({ contextSequence: kept, chatWrapper, systemPrompt: preamble });
  const before = kept.tokenMeter.getState();
  await session.prompt(question, { maxTokens: 4 });
  computed = kept.tokenMeter.diff(before).usedInputTokens;
  length ??= computed;
  session.dispose();
}
tell("prefix", computed < length ? `${length - computed} of ${length} tokens` : "0 tokens");
await kept.dispose();

const controller = new AbortController();
let told = 0;
const count = () => {
  told += 1;
  controller.abort();
};
let stopped = false;
try {
  await ask(QUESTION, { maxTokens: long, tokenBias: endless, signal: controller.signal, onTextChunk: count });
} catch (error) {
  if (!controller.signal.aborted) throw error;
  stopped = true;
}
tell("cancelled", stopped && told < long / 2 ? "stops computing" : "computes to the end");
tell("memory", `${Math.round(process.memoryUsage().rss / 1e6)} MB`);
process.exit();
