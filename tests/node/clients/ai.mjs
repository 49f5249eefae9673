// The AI SDK, with each of its providers that speak one of the gateway's interfaces.
import { createAnthropic } from "@ai-sdk/anthropic";
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { APICallError, generateObject, generateText, jsonSchema, stepCountIs, streamText, tool } from "ai";

import { BREAKS, CALLS, CALLS_JSON, GREETS, read, refusal, REPORT, TALKS_FOR_MINUTES, WEATHER, WRITES } from "./models.mjs";

globalThis.AI_SDK_LOG_WARNINGS = false; // they go to stdout
const apiKey = "none";
const common = { prompt: "Hello", maxRetries: 0 };

export const aiCompatible = (url) =>
  cases(createOpenAICompatible({ name: "ours", baseURL: `${url}/v1`, apiKey, supportsStructuredOutputs: true }));
// Asks models that it does not know for a call of a tool named json instead of an object.
export const aiAnthropic = (url) => cases(createAnthropic({ baseURL: `${url}/v1`, apiKey }), CALLS_JSON);
export const aiOpenai = (url) => cases(createOpenAI({ baseURL: `${url}/v1`, apiKey }).chat);
export const aiResponses = (url) => cases(createOpenAI({ baseURL: `${url}/v1`, apiKey }).responses);

function cases(provider, writer = WRITES) {
  return {
    async greets() {
      return (await generateText({ ...common, model: provider(GREETS) })).text;
    },
    async streams() {
      return (await read(texts(provider(GREETS)))).text;
    },
    async calls() {
      const asked = [];
      const execute = async ({ city }) => asked.push(city);
      const get_weather = tool({ description: "Weather", inputSchema: jsonSchema(WEATHER), execute });
      const stopWhen = stepCountIs(3);
      const { text, steps } = await generateText({ ...common, model: provider(CALLS), tools: { get_weather }, stopWhen });
      return { answer: text, asked, steps: steps.length };
    },
    async writes() {
      return (await generateObject({ ...common, model: provider(writer), schema: jsonSchema(REPORT) })).object;
    },
    async breaks() {
      const { text, error } = await read(texts(provider(BREAKS)));
      return { text, raised: error !== null };
    },
    async leaves(abort) {
      const pieces = texts(provider(TALKS_FOR_MINUTES), { abortSignal: abort.signal });
      return (await read(pieces, () => abort.abort())).text;
    },
    async refuses() {
      const error = await generateText({ ...common, model: provider(GREETS), topP: 3 }).catch((raised) => raised);
      return refusal(error, APICallError.isInstance(error) && error.statusCode, "top_p");
    },
  };
}

// A stream's texts; its errors, which the package makes parts of the stream, are thrown again.
async function* texts(model, options) {
  for await (const part of streamText({ ...common, ...options, model, onError() {} }).fullStream) {
    if (part.type === "error") throw part.error;
    if (part.type === "text-delta") yield part.text;
  }
}
