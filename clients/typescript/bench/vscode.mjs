import { spawn } from "node:child_process";
import { PassThrough } from "node:stream";
import { createMessageConnection, StreamMessageReader, StreamMessageWriter } from "vscode-jsonrpc/node";

/** The same frames with headers, as vscode-jsonrpc reads them; how many deltas there were. */
export async function readWithVscode(file, streams) {
  const child = spawn("cat", [file], { stdio: ["ignore", "pipe", "inherit"] });
  const nowhere = new PassThrough().resume(); // cat reads no requests
  const connection = createMessageConnection(new StreamMessageReader(child.stdout), new StreamMessageWriter(nowhere));
  let deltas = 0;
  connection.onNotification("stream/delta", () => (deltas += 1));
  connection.listen();
  // Its ids begin with 0, those of the frames with 2, so two requests without an answer come first.
  const requests = Array.from({ length: streams + 2 }, () => connection.sendRequest("generate", {}));
  requests.slice(0, 2).forEach((request) => request.catch(() => {}));
  await Promise.all(requests.slice(2));
  connection.dispose();
  child.kill();
  return deltas;
}
