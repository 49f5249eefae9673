// Ollama's package.
import { Ollama } from "ollama";

import { BREAKS, CALLS, GREETS, map, read, refusal, REPORT, TALKS_FOR_MINUTES, WEATHER, WRITES } from "./models.mjs";

const messages = [{ role: "user", content: "Hello" }];

export function ollama(url) {
  const client = new Ollama({ host: url });
  const stream = (model, from = client) =>
    map(from.chat({ model, messages, stream: true }), (part) => part.message.content);
  return {
    async greets() {
      return (await client.chat({ model: GREETS, messages })).message.content;
    },
    async streams() {
      return (await read(stream(GREETS))).text;
    },
    // The package has no loop for tools of its own.
    async calls() {
      const weather = { name: "get_weather", description: "Weather", parameters: WEATHER };
      const tools = [{ type: "function", function: weather }];
      const { message } = await client.chat({ model: CALLS, messages, tools });
      const results = message.tool_calls.map(({ function: { name } }) => ({ role: "tool", tool_name: name, content: "1" }));
      const last = await client.chat({ model: CALLS, messages: [...messages, message, ...results], tools });
      return { answer: last.message.content, asked: message.tool_calls.map((call) => call.function.arguments.city) };
    },
    async writes() {
      return JSON.parse((await client.chat({ model: WRITES, messages, format: REPORT })).message.content);
    },
    async breaks() {
      const { text, error } = await read(stream(BREAKS));
      return { text, raised: error instanceof Error };
    },
    // It aborts all streams of a client.
    async leaves() {
      const leaving = new Ollama({ host: url });
      return (await read(stream(TALKS_FOR_MINUTES, leaving), () => leaving.abort())).text;
    },
    async refuses() {
      const error = await client.chat({ model: GREETS, messages, options: { top_p: 3 } }).catch((raised) => raised);
      return refusal(error, error.status_code, "top_p");
    },
  };
}
