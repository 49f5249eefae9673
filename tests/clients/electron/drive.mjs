// Uses examples/electron as a person does, and tells what was seen: node drive.mjs APP QUESTIONS, where a question is
// { question, then: "wait" | "stop" | "close" }. The last thing is that the window is closed; Node ends when nothing runs.
import path from "node:path";
import { pathToFileURL } from "node:url";

const [folder, questions] = process.argv.slice(2);
process.resourcesPath = path.dirname(folder);
const url = (...parts) => pathToFileURL(path.join(...parts)).href;
const electron = await import(url(process.resourcesPath, "node_modules", "electron", "electron.mjs"));
await import(url(folder, "main.mjs"));
const page = await electron.page;
page.setDefaultTimeout(Number(process.env.PATIENCE_MS));
const faults = [];
page.on("pageerror", (error) => faults.push(error.stack));

const read = (id) => page.locator(`#${id}`).textContent();
const told = [];
for (const { question, then } of JSON.parse(questions)) {
  await page.fill("#question", question);
  await page.press("#question", "Enter");
  if (then === "wait") await page.waitForFunction(() => document.getElementById("stop").disabled);
  else await page.waitForFunction(() => document.getElementById("answer").textContent.length > 20);
  if (then === "stop") await page.click("#stop");
  if (then !== "close") await page.waitForFunction(() => document.getElementById("status").textContent !== "answering");
  told.push({ answer: await read("answer"), status: await read("status") });
}
process.stdout.write(JSON.stringify({ told, faults }));
await page.close();
