import assert from "node:assert/strict";
import { once } from "node:events";
import { test } from "node:test";
import { COMMAND, host, watched } from "./support.mjs";

const STREAMING = `
  const sidecar = await Sidecar.spawn(options);
  const stream = sidecar.generate({ model: "fake?tokens=100000&delay_ms=1&context=200000", prompt: "x" });
  await stream.next();`;

test("process.exit leaves nothing behind", async (t) => {
  const { command, gone } = watched(t);
  const child = host(t, command, `${STREAMING} process.exit(5);`);
  assert.deepEqual(await once(child, "exit"), [5, null]);
  await gone;
});

test("a host that is killed leaves nothing behind", async (t) => {
  const { command, gone } = watched(t);
  const child = host(t, command, `${STREAMING} ready(); for await (const _ of stream);`);
  await once(child.stdout, "data");
  child.kill("SIGKILL");
  await gone;
});

test("a host that stalls its event loop and is killed leaves nothing behind", async (t) => {
  const { command, gone } = watched(t);
  const child = host(t, command, `${STREAMING} process.stdout.write("ready\\n", () => { for (;;); });`);
  await once(child.stdout, "data");
  child.kill("SIGKILL");
  await gone;
});

test("an uncaught exception leaves nothing behind", async (t) => {
  const { command, gone } = watched(t);
  const child = host(t, command, `process.on("uncaughtException", () => process.exit(6)); ${STREAMING} throw new Error("x");`);
  assert.deepEqual(await once(child, "exit"), [6, null]);
  await gone;
});

test("closing ends the process before it settles", async (t) => {
  const { command, gone } = watched(t);
  const child = host(t, command, `${STREAMING} const { pid } = sidecar; await sidecar.close();
    try { process.kill(pid, 0); process.exitCode = 7; } catch { process.exitCode = 0; }`);
  assert.deepEqual(await once(child, "exit"), [0, null]);
  await gone;
});

test("an idle sidecar does not keep its host, and goes with it", async (t) => {
  const { command, gone } = watched(t);
  const child = host(t, command, `const sidecar = await Sidecar.spawn(options); await sidecar.ping();`);
  assert.deepEqual(await once(child, "exit"), [0, null]);
  await gone;
});

test("a request that runs keeps its host, also over the death of the sidecar", async (t) => {
  const source = `const sidecar = await Sidecar.spawn({ ...options, onLog() {} });
    sidecar.complete({ model: "fake?tokens=20&load_ms=300", prompt: "x" }).then(({ text }) => process.stdout.write(text));
    await sidecar.ping();
    process.kill(sidecar.pid, "SIGKILL");`;
  const child = host(t, COMMAND, source);
  let text = "";
  child.stdout.on("data", (chunk) => (text += chunk));
  assert.deepEqual(await once(child, "close"), [0, null]);
  assert.equal(text.length, 20);
});

test("a sidecar that dies unasked does not keep its idle host", async (t) => {
  const source = `const sidecar = await Sidecar.spawn({ ...options, onLog() {} }); process.kill(sidecar.pid, "SIGKILL");`;
  const child = host(t, COMMAND, source);
  assert.deepEqual(await once(child, "exit"), [0, null]);
});
