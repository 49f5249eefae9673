// A host: starts a sidecar, asks it something, prints the answer as it comes. Ctrl-C ends the answer, not the program.
// Usage: node host.mjs [QUESTION]
import { RpcError, Sidecar } from "mlx-sidecar";

const question = process.argv[2] ?? "What is mlx-sidecar?";
const controller = new AbortController();
process.once("SIGINT", () => controller.abort());

const sidecar = await Sidecar.spawn({ args: (process.env.SIDECAR_ARGS ?? "").split(" ").filter(Boolean) });
try {
  const messages = [{ role: "user", content: question }];
  const stream = sidecar.generate({ model: process.env.MODEL ?? "pocket", messages }, { signal: controller.signal });
  for await (const { text } of stream) process.stdout.write(text);
  const { finish_reason, usage } = await stream.result;
  console.log(`\n(${finish_reason}, ${usage.completion_tokens} tokens)`);
} catch (error) {
  if (controller.signal.aborted) console.log("\n(stopped)");
  else if (error instanceof RpcError) console.error(`${error.kind}: ${error.message}`);
  else throw error;
} finally {
  await sidecar.close();
}
