// Clients of others against a gateway over the fake engine: prints for each client how each of its cases went, and how
// many of its answers the gateway saw ended by their client. run.mjs URL
import { aiAnthropic, aiCompatible, aiOpenai, aiResponses } from "./ai.mjs";
import { anthropic } from "./anthropic.mjs";
import { ollama } from "./ollama.mjs";
import { openai, openaiResponses } from "./openai.mjs";

const CLIENTS = { openai, openaiResponses, anthropic, ollama, aiCompatible, aiAnthropic, aiOpenai, aiResponses };
const url = process.argv[2];

async function results(client) {
  const cases = Object.entries(client).map(async ([title, run]) => {
    const told = await run(new AbortController()).catch((error) => ({ error: error.stack }));
    return [title, told];
  });
  return Object.fromEntries(await Promise.all(cases));
}

const told = {};
for (const [name, client] of Object.entries(CLIENTS)) told[name] = await results(client(url));
let figures;
do figures = await (await fetch(`${url}/stats`)).json();
while (figures.running > 0);
console.log(JSON.stringify({ clients: told, disconnected: figures.outcomes.disconnected }));
