// Search of a folder of notes by their meaning. Usage: node search.mjs MODEL "QUESTION" [FOLDER]
//
// MODEL is one that embeds texts, such as a directory of all-MiniLM-L6-v2. Each paragraph of the notes is given a vector,
// and so is the question: the paragraphs whose vectors are nearest to the question's are printed.
import { readdir, readFile } from "node:fs/promises";
import { pathToFileURL } from "node:url";
import { Sidecar } from "mlx-sidecar";

const [model, question, given] = process.argv.slice(2);
const folder = given ? pathToFileURL(`${given}/`) : new URL("../data/notes/", import.meta.url);

const paragraphs = [];
for (const name of (await readdir(folder)).filter((name) => name.endsWith(".md")).sort()) {
  for (const paragraph of (await readFile(new URL(name, folder), "utf8")).split("\n\n")) {
    if (paragraph.trim() && !paragraph.startsWith("#")) paragraphs.push({ name, text: paragraph.trim() });
  }
}

const args = (process.env.SIDECAR_ARGS ?? "").split(" ").filter(Boolean);
const sidecar = await Sidecar.spawn({ args });
try {
  const vectors = await sidecar.embedAll({ model, input: paragraphs.map(({ text }) => text), truncate: true });
  const [asked] = await sidecar.embedAll({ model, input: [question] });
  // The vectors have length 1, so that their product is the cosine of the angle between them.
  const scored = paragraphs.map((each, at) => ({ ...each, score: asked.reduce((sum, a, i) => sum + a * vectors[at][i], 0) }));
  for (const { score, name, text } of scored.sort((a, b) => b.score - a.score).slice(0, 3)) {
    console.log(`${score.toFixed(2)} ${name}: ${text}`);
  }
} finally {
  await sidecar.close();
}
