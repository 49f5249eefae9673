// Anthropic's package.
import Anthropic, { APIError } from "@anthropic-ai/sdk";
import { betaTool } from "@anthropic-ai/sdk/helpers/beta/json-schema";
import { jsonSchemaOutputFormat } from "@anthropic-ai/sdk/helpers/json-schema";

import { BREAKS, CALLS, GREETS, map, read, refusal, REPORT, TALKS_FOR_MINUTES, WEATHER, WRITES } from "./models.mjs";

const common = { max_tokens: 1000, messages: [{ role: "user", content: "Hello" }] };

export function anthropic(url) {
  const client = new Anthropic({ baseURL: url, apiKey: "none", maxRetries: 0 });
  const stream = (model, options) =>
    map(client.messages.stream({ ...common, model }, options), (event) => event.delta?.text);
  return {
    async greets() {
      return (await client.messages.create({ ...common, model: GREETS })).content[0].text;
    },
    async streams() {
      return (await read(stream(GREETS))).text;
    },
    async calls() {
      const asked = [];
      const run = ({ city }) => `${asked.push(city)}`;
      const weather = betaTool({ name: "get_weather", description: "Weather", inputSchema: WEATHER, run });
      const last = await client.beta.messages.toolRunner({ ...common, model: CALLS, tools: [weather] });
      return { answer: last.content[0].text, asked };
    },
    async writes() {
      const output_config = { format: jsonSchemaOutputFormat(REPORT) };
      return (await client.messages.parse({ ...common, model: WRITES, output_config })).parsed_output;
    },
    async breaks() {
      const { text, error } = await read(stream(BREAKS));
      return { text, raised: error instanceof APIError };
    },
    async leaves(abort) {
      return (await read(stream(TALKS_FOR_MINUTES, { signal: abort.signal }), () => abort.abort())).text;
    },
    async refuses() {
      const error = await client.messages.create({ ...common, model: GREETS, top_p: 3 }).catch((raised) => raised);
      return refusal(error, error.status, "top_p");
    },
  };
}
