// Streams answers as server-sent events: GET /?prompt=… gives `data: {"text": …}` for each delta and `event: end` at last.
// A client that closes the connection cancels the generation; one that reads slowly slows down its own answer only.
// Usage: node http-server.mjs, with PORT, MODEL and SIDECAR_ARGS in the environment.
import { once } from "node:events";
import { createServer } from "node:http";
import { Sidecar, SidecarError } from "mlx-sidecar";

const model = process.env.MODEL ?? "pocket";
const sidecar = await Sidecar.spawn({ args: (process.env.SIDECAR_ARGS ?? "").split(" ").filter(Boolean) });

/** Settles when the response can take more, so that the loop around it, the client and the engine wait. */
async function send(response, signal, event, data) {
  const flows = response.write(`event: ${event}\ndata: ${JSON.stringify(data)}\n\n`);
  if (!flows) await once(response, "drain", { signal });
}

async function answer(prompt, response, signal) {
  const stream = sidecar.generate({ model, messages: [{ role: "user", content: prompt }] }, { signal });
  for await (const { text } of stream) await send(response, signal, "delta", { text });
  const { finish_reason, usage } = await stream.result;
  await send(response, signal, "end", { finish_reason, usage });
}

async function handle(request, response) {
  const prompt = new URL(request.url, "http://localhost").searchParams.get("prompt");
  if (request.method !== "GET" || prompt === null) {
    response.writeHead(400).end("GET /?prompt=…\n");
    return;
  }
  const controller = new AbortController();
  response.on("close", () => controller.abort());
  response.writeHead(200, { "content-type": "text/event-stream", "cache-control": "no-store" });
  try {
    await answer(prompt, response, controller.signal);
  } catch (error) {
    if (controller.signal.aborted) return; // the client has left
    if (!(error instanceof SidecarError)) throw error;
    await send(response, controller.signal, "error", { kind: error.kind, message: error.message });
  }
  response.end();
}

const server = createServer((request, response) => {
  handle(request, response).catch((error) => {
    console.error(error);
    response.destroy();
  });
});
server.listen(Number(process.env.PORT ?? 8080), "127.0.0.1", () => {
  console.log(`http://127.0.0.1:${server.address().port}/?prompt=Hello`);
});

for (const signal of ["SIGINT", "SIGTERM"]) {
  process.once(signal, async () => {
    server.close();
    server.closeAllConnections();
    await sidecar.close();
  });
}
