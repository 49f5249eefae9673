// An agent that reads a file, computes and answers. Usage: node agent.mjs [MODEL]
//
// The model says which function to call, with which arguments, and what the answer is; the functions do the work. The
// embedded model, pocket, knows the form of a call and little more: it would call a wrong one, or tell a wrong figure. So
// it is told which function comes next, enums leave it nothing to get wrong, and the form of its answer has the figure.
import { readFile } from "node:fs/promises";
import { runTools, Sidecar, tool } from "mlx-sidecar";

const FOLDER = new URL("../data/", import.meta.url);
const text = (name) => readFile(new URL(name, FOLDER), "utf8");
const name = { enum: ["prices.csv"] };

const read = tool({
  name: "read_file",
  description: "Read a file.",
  parameters: { type: "object", properties: { name }, required: ["name"], additionalProperties: false },
  strict: true, // calls keep to the schema
  run: ({ name }) => text(name),
});

const addUp = tool({
  name: "add_up",
  description: "Add up a column of a file.",
  parameters: {
    type: "object",
    properties: { name, column: { enum: ["price"] } },
    required: ["name", "column"],
    additionalProperties: false,
  },
  strict: true,
  run: async ({ name, column }) => {
    const [header, ...rows] = (await text(name)).trim().split("\n").map((line) => line.split(","));
    const sum = rows.reduce((sum, row) => sum + Number(row[header.indexOf(column)]), 0);
    return Number(sum.toFixed(2));
  },
});

function onEvent(event) {
  if (event.type === "text") process.stdout.write(event.text);
  if (event.type === "tool_result") {
    console.log(`${event.call.name}(${event.call.arguments}):\n${event.content.trim()}\n`);
  }
}

const model = process.argv[2] ?? "pocket";
const messages = [{ role: "user", content: "What do the things in prices.csv cost together?" }];
const params = { model, messages, tools: [read, addUp] };
const sidecar = await Sidecar.spawn();
try {
  if (model === "pocket") {
    const tool_choice = [{ name: "read_file" }, { name: "add_up" }];
    const run = await runTools(sidecar, { ...params, tool_choice }, { onEvent, maxRounds: 2 });
    const total = run.outcomes.at(-1).content;
    const choices = [`Together they cost ${total}.`, `They cost ${total} together.`];
    const answer = await sidecar.complete({ model, messages: run.messages, response_format: { type: "choice", choices } });
    console.log(answer.text);
  } else {
    const { ended } = await runTools(sidecar, params, { onEvent });
    console.log(ended === "answered" ? "" : `\n(no answer: ${ended})`);
  }
} finally {
  await sidecar.close();
}
