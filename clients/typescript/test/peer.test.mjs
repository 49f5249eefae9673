// The client survives a newer, an odd or a broken sidecar, each played by a script.
import assert from "node:assert/strict";
import { once } from "node:events";
import { test } from "node:test";
import { RpcError, Sidecar } from "../dist/index.js";
import { host, rest, scripted, scriptedCommand } from "./support.mjs";

const STREAM = `
  const request = await read();
  const stream = request.params.stream;
  const delta = (seq, text, more) => write({ method: "stream/delta", params: { stream, seq, offset: seq, text, tokens: [seq], ...more } });
  const result = { finish_reason: "stop", usage: {}, timing: {}, seed: 1, stream };`;

test("unknown notifications, members and reasons are taken as they come", async (t) => {
  const heard = [];
  const script = `${STREAM}
    write({ method: "weather/changed", params: { to: "rain" } });
    write({ method: "stream/applause", params: { stream } });
    delta(0, "a", { colour: "red" });
    write({ method: "stream/delta", params: { stream: "another", seq: 0, offset: 0, text: "b", tokens: [] } });
    write({ id: 12345, result: {} });
    write({ id: null, error: { code: -32700, message: "what?" } });
    write({ id: "x", method: "ask/host", params: {} });
    answer(request, { ...result, finish_reason: "bored", mood: "good" });`;
  const sidecar = await scripted(t, script, { onNotification: (method) => heard.push(method) });
  const stream = sidecar.generate({ model: "m", prompt: "p" });
  const deltas = await rest(stream);
  assert.deepEqual(deltas.map(({ text, colour }) => [text, colour]), [["a", "red"]]);
  const answer = await stream.result;
  assert.deepEqual([answer.finish_reason, answer.mood, answer.text, answer.tokens], ["bored", "good", "a", [0]]);
  assert.deepEqual(heard, ["weather/changed", "stream/applause", "stream/delta", "ask/host"]);
});

test("an unknown kind of error is an RpcError, as an answer and in a result", async (t) => {
  const sidecar = await scripted(t, `
    const error = { code: -32099, message: "too hot", data: { kind: "sun_burnt", retryable: true } };
    write({ id: (await read()).id, error });
    answer(await read(), { finish_reason: "error", error, usage: {}, timing: {}, seed: 1 });`);
  const sunburnt = (error) => error instanceof RpcError && error.kind === "sun_burnt" && error.retryable;
  await assert.rejects(sidecar.ping(), sunburnt);
  await assert.rejects(sidecar.complete({ model: "m", prompt: "p" }), (error) => sunburnt(error) && error.result.seed === 1);
});

test("characters whose bytes come in pieces are whole", async (t) => {
  const script = `${STREAM}
    const text = "né €𝄞 ".repeat(20);
    const bytes = Buffer.from(JSON.stringify({ method: "stream/delta", params: { stream, seq: 0, offset: 0, text, tokens: [] } }) + "\\n");
    for (const byte of bytes) await new Promise((done) => process.stdout.write(Buffer.of(byte), done));
    answer(request, result);`;
  const sidecar = await scripted(t, script);
  const [delta] = await rest(sidecar.generate({ model: "m", prompt: "p" }));
  assert.equal(delta.text, "né €𝄞 ".repeat(20));
});

test("acks go out for every half of a window, and the last ones that matter only", async (t) => {
  const script = `${STREAM}
    const acks = [];
    for (let seq = 0; seq < 8; seq++) {
      delta(seq, "x");
      if (seq % 2 === 1) acks.push((await read()).params);
    }
    answer(request, { ...result, window: request.params.window, acks });`;
  const sidecar = await scripted(t, script);
  const stream = sidecar.generate({ model: "m", prompt: "p", window: 4 });
  assert.equal((await rest(stream)).length, 8);
  const { acks, window } = await stream.result;
  assert.equal(window, 4);
  assert.deepEqual(acks, [1, 3, 5, 7].map((seq) => ({ stream: acks[0].stream, seq })));
});

test("what a listener throws is uncaught, and costs nobody a message", async (t) => {
  const script = `${STREAM}
    write({ method: "log", params: { level: "info", message: "m" } });
    delta(0, "a");
    answer(request, result);`;
  const child = host(t, scriptedCommand(script), `
    process.on("uncaughtException", ({ message }) => process.stdout.write(message));
    const onLog = () => { throw new Error("my listener"); };
    const sidecar = await Sidecar.spawn({ ...options, onLog });
    process.stdout.write((await sidecar.generate({ model: "m", prompt: "p" }).result).text);
    await sidecar.close();`);
  let said = "";
  child.stdout.on("data", (chunk) => (said += chunk));
  assert.deepEqual(await once(child, "close"), [0, null]);
  assert.deepEqual(said.replace("a", ""), "my listener");
});

test("a program that speaks no JSON-RPC is not waited for", async () => {
  const broken = (source) => {
    const command = [process.execPath, "--eval", `${source}; setInterval(() => {}, 1000)`, "--"];
    return assert.rejects(Sidecar.spawn({ command }), { kind: "sidecar_lost", message: /wrote what cannot be understood to stdout/ });
  };
  await broken("console.log('Hello!')");
  await broken("console.log('null')");
  await broken("console.log('7')");
});
