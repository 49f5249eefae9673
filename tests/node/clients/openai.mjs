// OpenAI's package, on chat completions and on responses.
import OpenAI, { APIError } from "openai";

import { BREAKS, CALLS, GREETS, map, read, refusal, REPORT, TALKS_FOR_MINUTES, WEATHER, WRITES } from "./models.mjs";

const messages = [{ role: "user", content: "Hello" }];
const connect = (url) => new OpenAI({ baseURL: `${url}/v1`, apiKey: "none", maxRetries: 0 });

export function openai(url) {
  const completions = connect(url).chat.completions;
  const stream = (model, options) =>
    map(completions.create({ model, messages, stream: true }, options), (chunk) => chunk.choices[0]?.delta.content);
  return {
    async greets() {
      return (await completions.create({ model: GREETS, messages })).choices[0].message.content;
    },
    async streams() {
      return (await read(stream(GREETS))).text;
    },
    async calls() {
      const asked = [];
      const weather = { name: "get_weather", parameters: WEATHER, parse: JSON.parse, function: ({ city }) => asked.push(city) };
      const tools = [{ type: "function", function: weather }];
      return { answer: await completions.runTools({ model: CALLS, messages, tools }).finalContent(), asked };
    },
    async writes() {
      const response_format = { type: "json_schema", json_schema: { name: "report", schema: REPORT, strict: true } };
      const answer = await completions.create({ model: WRITES, messages, response_format });
      return JSON.parse(answer.choices[0].message.content);
    },
    async breaks() {
      const { text, error } = await read(stream(BREAKS));
      return { text, raised: error instanceof APIError };
    },
    async leaves(abort) {
      return (await read(stream(TALKS_FOR_MINUTES, { signal: abort.signal }), () => abort.abort())).text;
    },
    async refuses() {
      const error = await completions.create({ model: GREETS, messages, top_p: 3 }).catch((raised) => raised);
      return refusal(error, error.status, "top_p");
    },
  };
}

export function openaiResponses(url) {
  const responses = connect(url).responses;
  const input = "Hello";
  const stream = (model, options) =>
    map(responses.create({ model, input, stream: true }, options), ({ type, delta }) =>
      type === "response.output_text.delta" ? delta : "",
    );
  return {
    async greets() {
      return (await responses.create({ model: GREETS, input })).output_text;
    },
    async streams() {
      return (await read(stream(GREETS))).text;
    },
    async calls() {
      const tools = [{ type: "function", name: "get_weather", parameters: WEATHER, strict: true }];
      const first = await responses.create({ model: CALLS, input, tools });
      const calls = first.output.filter((item) => item.type === "function_call");
      const results = calls.map(({ call_id }) => ({ type: "function_call_output", call_id, output: "sunny" }));
      const last = await responses.create({ model: CALLS, input: results, tools, previous_response_id: first.id });
      return { answer: last.output_text, asked: calls.map((call) => JSON.parse(call.arguments).city) };
    },
    async writes() {
      const format = { type: "json_schema", name: "report", schema: REPORT, strict: true };
      return JSON.parse((await responses.create({ model: WRITES, input, text: { format } })).output_text);
    },
    async breaks() {
      const { text, error } = await read(stream(BREAKS));
      return { text, raised: error instanceof APIError };
    },
    async leaves(abort) {
      return (await read(stream(TALKS_FOR_MINUTES, { signal: abort.signal }), () => abort.abort())).text;
    },
    async refuses() {
      const error = await responses.create({ model: GREETS, input, top_p: 3 }).catch((raised) => raised);
      return refusal(error, error.status, "top_p");
    },
  };
}
