import assert from "node:assert/strict";
import { test } from "node:test";
import { COMMAND, deferred, engineFor, FAKE } from "./support.js";

test("one process serves all, and starts with the first request", async (t) => {
  const { engine, states } = engineFor(t);
  assert.deepEqual([engine.state, states], ["idle", []]);
  const [one, other] = await Promise.all([engine.sidecar(), engine.sidecar()]);
  assert.equal(one, other);
  assert.deepEqual(states.slice(0, 2), ["starting", "ready"]);
});

test("stopped, it stays so until it is asked for again", async (t) => {
  const { engine } = engineFor(t);
  const sidecar = await engine.sidecar();
  const { pid } = sidecar;
  await engine.stop();
  assert.equal(engine.state, "stopped");
  assert.throws(() => process.kill(pid ?? 0, 0), { code: "ESRCH" });
  await assert.rejects(sidecar.ping(), { kind: "sidecar_closed" });
  await (await engine.sidecar()).ping();
  assert.equal(engine.state, "ready");
});

test("stopping while it starts leaves nothing behind", async (t) => {
  const { engine } = engineFor(t);
  const starting = engine.sidecar();
  await engine.stop();
  await assert.rejects(starting, { kind: "sidecar_closed" });
  assert.equal(engine.state, "stopped");
});

test("a program that is not there is a typed error, and another one that is named is tried", async (t) => {
  const { engine } = engineFor(t, FAKE, "/nonexistent/mlx-sidecar");
  await assert.rejects(engine.sidecar(), { kind: "executable_not_found" });
  assert.equal(engine.state, "failed");
  await engine.configure({ executable: COMMAND, args: FAKE });
  assert.equal(engine.state, "idle");
  await (await engine.sidecar()).ping();
});

test("other options replace the process that runs, and start none that does not", async (t) => {
  const { engine } = engineFor(t);
  await engine.configure({ executable: COMMAND, args: [...FAKE, "--no-autoload"] });
  assert.equal(engine.isRunning, false);
  const before = (await engine.sidecar()).pid;
  await engine.configure({ executable: COMMAND, args: FAKE });
  assert.notEqual((await engine.sidecar()).pid, before);
});

test("a lost engine process is told of, and so is the next one", async (t) => {
  const { engine, states } = engineFor(t);
  const sidecar = await engine.sidecar();
  const { text } = await sidecar.generate({ model: "fake?echo=1&crash_after=2", prompt: "Hello" }).result;
  assert.equal(text, "Hello");
  const known = deferred();
  const look = setInterval(() => states.at(-1) === "ready" && known.resolve(), 5);
  await known.promise;
  clearInterval(look);
  assert.ok(states.includes("recovering"));
});

test("closed, it starts no more", async (t) => {
  const { engine } = engineFor(t);
  await engine.sidecar();
  await engine.close();
  await assert.rejects(engine.sidecar(), { kind: "sidecar_closed" });
});
