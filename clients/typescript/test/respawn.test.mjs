import assert from "node:assert/strict";
import { test } from "node:test";
import { SidecarClosed, SidecarLost } from "../dist/index.js";
import { ENDLESS, fake, kill, rest, scripted } from "./support.mjs";

const prompt = "Hello";

test("requests that may be asked twice outlive the process", async (t) => {
  const sidecar = await fake(t);
  const first = sidecar.pid;
  const waiting = [
    sidecar.generate({ model: "fake?tokens=20&load_ms=50", prompt }).result,
    sidecar.complete({ model: "fake?tokens=20&load_ms=50", prompt }),
    sidecar.load({ model: "fake?load_ms=50" }),
    sidecar.tokenize({ model: "fake?load_ms=50", text: "ab" }),
  ];
  await sidecar.ping();
  kill(sidecar);
  const [streamed, whole, card, { count }] = await Promise.all(waiting);
  assert.equal(streamed.usage.completion_tokens, 20);
  assert.equal(whole.finish_reason, "stop");
  assert.equal(card.state, "ready");
  assert.equal(count, 2);
  assert.notEqual(sidecar.pid, first);
});

test("a stream of which deltas had been taken tells what it had brought", async (t) => {
  const sidecar = await fake(t);
  const stream = sidecar.generate({ model: ENDLESS, prompt });
  let text = "";
  const loop = (async () => {
    for await (const delta of stream) {
      text += delta.text;
      if (delta.seq === 4) kill(sidecar);
    }
  })();
  await assert.rejects(loop, (error) => {
    assert.ok(error instanceof SidecarLost);
    assert.equal(error.kind, "sidecar_lost");
    assert.equal(error.exit.signal, "SIGKILL");
    assert.equal(error.text, text);
    assert.equal(error.tokens.length, text.length);
    return true;
  });
  await assert.rejects(stream.result, SidecarLost);
  assert.equal((await sidecar.complete({ model: "fake?tokens=3", prompt })).usage.completion_tokens, 3);
});

test("a stream that nobody has read of begins anew, and its reader sees one whole answer", async (t) => {
  const sidecar = await fake(t);
  const stream = sidecar.generate({ model: "fake?tokens=200&delay_ms=1", prompt, seed: 1 });
  while (stream.tokens.length < 20) await sidecar.ping();
  kill(sidecar);
  const { tokens } = await stream.result;
  const deltas = await rest(stream);
  assert.deepEqual(deltas.map(({ seq }) => seq), deltas.map((_, index) => index));
  assert.deepEqual(deltas.flatMap((delta) => delta.tokens), tokens);
  assert.equal(tokens.length, 200);
});

test("what the host had loaded is loaded again, what it had unloaded is not", async (t) => {
  const sidecar = await fake(t);
  await sidecar.load({ model: "mine", path: "/tmp", pin: true });
  await sidecar.load({ model: "fake?tokens=7" });
  await sidecar.load({ model: "fake?tokens=8" });
  await sidecar.unload({ model: "fake?tokens=8" });
  kill(sidecar);
  const models = await sidecar.models();
  assert.deepEqual(new Set(models.map(({ model }) => model)), new Set(["mine", "fake?tokens=7"]));
  assert.equal(models.find(({ model }) => model === "mine").pinned, true);
});

test("what must not be asked twice fails", async (t) => {
  const sidecar = await scripted(t, "");
  const lost = await scripted(t, "for (;;) if ((await read()).method === 'cache/clear') process.exit(3);");
  await assert.rejects(lost.cache.clear(), (error) => error instanceof SidecarLost && error.exit.code === 3);
  await sidecar.cache.clear();
});

test("what was asked twice already fails", async (t) => {
  const sidecar = await scripted(t, "await read(); process.exit(3);");
  await assert.rejects(sidecar.ping(), SidecarLost);
});

test("a stream that was sent again already fails", async (t) => {
  const sidecar = await scripted(t, "await read(); process.exit(3);");
  const stream = sidecar.generate({ model: "m", prompt });
  await assert.rejects(stream.next(), SidecarLost);
});

test("after five deaths within a minute it is given up, for everybody", async (t) => {
  const warnings = [];
  const options = { onLog: ({ logger, message }) => logger === "client" && warnings.push(message) };
  const script = "process.stderr.write('no more ideas\\n', () => process.exit(3));";
  const sidecar = await scripted(t, script, options);
  let lost;
  while (lost === undefined) lost = await sidecar.models().then(() => undefined, (error) => error);
  while (warnings.length < 6) lost = await sidecar.models().catch((error) => error);
  assert.ok(lost instanceof SidecarLost);
  assert.match(lost.message, /exited with status 3; its last words:\nno more ideas/);
  await assert.rejects(sidecar.generate({ model: "m", prompt }).result, SidecarLost);
});

test("without respawn the first death is the last", async (t) => {
  const sidecar = await fake(t, { respawn: false });
  const waiting = sidecar.complete({ model: ENDLESS, prompt });
  await sidecar.ping();
  kill(sidecar);
  await assert.rejects(waiting, SidecarLost);
  await assert.rejects(sidecar.ping(), SidecarLost);
});

test("a request can be aborted while it waits for the next process", async (t) => {
  const sidecar = await fake(t);
  kill(sidecar);
  const controller = new AbortController();
  const stream = sidecar.generate({ model: ENDLESS, prompt }, { signal: controller.signal });
  const ping = sidecar.ping({ signal: controller.signal });
  controller.abort(new Error("no time"));
  await assert.rejects(ping, /no time/);
  await assert.rejects(stream.next(), /no time/);
});

test("closing ends what runs with a result, and what comes later is refused", async (t) => {
  const sidecar = await fake(t);
  const stream = sidecar.generate({ model: ENDLESS, prompt });
  await stream.next();
  await Promise.all([sidecar.close(), sidecar.close()]);
  assert.equal((await stream.result).finish_reason, "cancelled");
  await assert.rejects(sidecar.ping(), SidecarClosed);
  await assert.rejects(sidecar.generate({ model: ENDLESS, prompt }).result, SidecarClosed);
});

test("closing while another process comes up ends that, too", async (t) => {
  const sidecar = await fake(t);
  kill(sidecar);
  const waiting = sidecar.ping();
  await sidecar.close();
  await assert.rejects(waiting, SidecarClosed);
});
