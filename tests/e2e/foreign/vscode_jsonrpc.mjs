// Drives a sidecar with vscode-jsonrpc, as an editor's extension would; prints what it saw as one JSON object.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createRequire } from "node:module";

const require = createRequire(new URL("../../node/package.json", import.meta.url));
const rpc = require("vscode-jsonrpc/node");

const [command, ...args] = JSON.parse(process.env.SIDECAR_COMMAND);
const child = spawn(command, args, { stdio: ["pipe", "pipe", "inherit"] });
const ended = once(child, "exit");
const connection = rpc.createMessageConnection(
  new rpc.StreamMessageReader(child.stdout),
  new rpc.StreamMessageWriter(child.stdin),
);

const seen = { deltas: {}, errors: [] };
const waiting = new Map(); // stream → what to do at its first delta
connection.onNotification("stream/delta", (delta) => {
  (seen.deltas[delta.stream] ??= []).push(delta);
  waiting.get(delta.stream)?.();
  waiting.delete(delta.stream);
});
connection.onError(([error]) => seen.errors.push(String(error)));
connection.listen();

// The result of a long generation that is cancelled after its first delta.
// An undefined token would be sent as a second parameter: it must not be there at all.
async function cancelled(stream, cancel, ...token) {
  const started = new Promise((resolve) => waiting.set(stream, resolve));
  const params = { model: "fake?tokens=100000&delay_ms=5", prompt: "Hello", stream };
  const answer = connection.sendRequest("generate", params, ...token);
  await started;
  await cancel();
  return answer;
}

seen.initialize = await connection.sendRequest("initialize", {
  protocol_version: 1,
  client: { name: "vscode-jsonrpc" },
  process_id: process.pid,
  capabilities: {},
});
await connection.sendNotification("initialized", {});
seen.ping = await connection.sendRequest("ping");
seen.finished = await connection.sendRequest("generate", {
  model: "fake?tokens=40",
  prompt: "Hello",
  stream: "finished",
});
const text = JSON.parse(process.env.SIDECAR_TEXT);
const { tokens } = await connection.sendRequest("tokenize", { model: "fake", text });
seen.returned = await connection.sendRequest("detokenize", { model: "fake", tokens });

const cancellation = new rpc.CancellationTokenSource();
seen.cancelled_by_id = await cancelled("token", () => cancellation.cancel(), cancellation.token); // $/cancelRequest
seen.cancelled_by_stream = await cancelled("stream", () =>
  connection.sendRequest("stream/cancel", { stream: "stream" }),
);

seen.unknown_method = await connection.sendRequest("no/such").catch(({ code, data }) => ({ code, data }));
seen.shutdown = await connection.sendRequest("shutdown");
await connection.sendNotification("exit");
[seen.exit_status] = await ended;
connection.dispose();
process.stdout.write(JSON.stringify(seen));
