// Drives a sidecar with vscode-jsonrpc, as an editor's extension would; prints what it saw as one JSON object.
// Usage: node vscode_jsonrpc.mjs COMMAND ARGUMENT…
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createRequire } from "node:module";

const require = createRequire(new URL("../node/package.json", import.meta.url));
const rpc = require("vscode-jsonrpc/node");

const [command, ...args] = process.argv.slice(2);
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

// An undefined token would be sent as a second parameter: it must not be there at all.
function generate(stream, model, ...token) {
  return connection.sendRequest("generate", { model, prompt: "Hello", stream }, ...token);
}

function firstDelta(stream) {
  return new Promise((resolve) => waiting.set(stream, resolve));
}

seen.initialize = await connection.sendRequest("initialize", {
  protocol_version: 1,
  client: { name: "vscode-jsonrpc" },
  process_id: process.pid,
  capabilities: {},
});
await connection.sendNotification("initialized", {});
seen.ping = await connection.sendRequest("ping");
seen.finished = await generate("finished", "fake?tokens=40");

const cancellation = new rpc.CancellationTokenSource();
let started = firstDelta("token");
const byToken = generate("token", "fake?tokens=100000&delay_ms=5", cancellation.token);
await started;
cancellation.cancel(); // sends $/cancelRequest
seen.cancelled_by_id = await byToken;

started = firstDelta("stream");
const byStream = generate("stream", "fake?tokens=100000&delay_ms=5");
await started;
seen.cancel_answer = await connection.sendRequest("stream/cancel", { stream: "stream" });
seen.cancelled_by_stream = await byStream;

seen.unknown_method = await connection.sendRequest("no/such").catch(({ code, data }) => ({ code, data }));
seen.shutdown = await connection.sendRequest("shutdown");
await connection.sendNotification("exit");
[seen.exit_status] = await ended;
connection.dispose();
process.stdout.write(JSON.stringify(seen));
