// Drives a sidecar with json-rpc-2.0 over lines; prints what it saw as one JSON object.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createRequire } from "node:module";
import { createInterface } from "node:readline";

const require = createRequire(new URL("../../node/package.json", import.meta.url));
const { JSONRPCClient, JSONRPCServer, JSONRPCServerAndClient } = require("json-rpc-2.0");

const [command, ...args] = JSON.parse(process.env.SIDECAR_COMMAND);
const child = spawn(command, args, { stdio: ["pipe", "pipe", "inherit"] });
const ended = once(child, "exit");

let lastId = 0;
const peer = new JSONRPCServerAndClient(
  new JSONRPCServer(),
  new JSONRPCClient(
    (message) => void child.stdin.write(JSON.stringify(message) + "\n"),
    () => ++lastId,
  ),
);

const seen = { deltas: {}, errors: [] };
const waiting = new Map(); // stream → what to do at its first delta
peer.addMethod("stream/delta", (delta) => {
  (seen.deltas[delta.stream] ??= []).push(delta);
  waiting.get(delta.stream)?.();
  waiting.delete(delta.stream);
});
peer.addMethod("engine/state", () => null);
createInterface({ input: child.stdout }).on("line", (line) => {
  peer.receiveAndSend(JSON.parse(line)).catch((error) => seen.errors.push(String(error)));
});

// The result of a long generation; `cancel` is called with its id after its first delta.
async function cancelled(stream, cancel) {
  const started = new Promise((resolve) => waiting.set(stream, resolve));
  const answer = peer.request("generate", { model: "fake?tokens=100000&delay_ms=5", prompt: "Hello", stream });
  const id = lastId;
  await started;
  await cancel(id);
  return answer;
}

seen.initialize = await peer.request("initialize", {
  protocol_version: 1,
  client: { name: "json-rpc-2.0" },
  process_id: process.pid,
});
peer.notify("initialized");
seen.ping = await peer.request("ping");
seen.finished = await peer.request("generate", { model: "fake?tokens=40", prompt: "Hello", stream: "finished" });
const text = JSON.parse(process.env.SIDECAR_TEXT);
const { tokens } = await peer.request("tokenize", { model: "fake", text });
seen.returned = await peer.request("detokenize", { model: "fake", tokens });
seen.cancelled_by_id = await cancelled("id", (id) => peer.notify("$/cancelRequest", { id }));
seen.cancelled_by_stream = await cancelled("stream", () => peer.request("stream/cancel", { stream: "stream" }));
seen.unknown_method = await peer.request("no/such").then(null, ({ code, data }) => ({ code, data }));
seen.shutdown = await peer.request("shutdown");
peer.notify("exit");
[seen.exit_status] = await ended;
process.stdout.write(JSON.stringify(seen));
