import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { Session, UnknownSession } from "../dist/index.js";
import { fake, rest, textOf } from "./support.mjs";

const model = "fake?text=Yes.";
const said = (content) => [{ role: "user", content }];
let sidecar, folder;

before(async () => {
  sidecar = await fake({ after() {} });
  folder = await mkdtemp(join(tmpdir(), "session-"));
});
after(async () => {
  await sidecar.close();
  await rm(folder, { recursive: true });
});

test("a chat is streamed, forked, rolled back, written and read", async () => {
  const session = await Session.open(sidecar, { model, messages: [{ role: "system", content: "Be brief." }] });
  const stream = session.generate(said("One?"));
  assert.equal(textOf(await rest(stream)), "Yes.");
  const first = await stream.result;
  const second = await session.generate(said("Two?"), { max_tokens: 2 }).result;
  const fork = await session.fork(first.turn);
  const other = await fork.generate(said("Two?")).result;
  assert.equal(other.usage.prompt_tokens, second.usage.prompt_tokens);
  assert.deepEqual(await session.rollBack(first.turn, { dryRun: true }), [second.turn]);
  assert.deepEqual(await session.rollBack(first.turn), [second.turn]);
  const path = join(folder, "chat");
  await session.write(path);
  const read = await Session.read(sidecar, { path });
  assert.deepEqual((await read.get()).turns.map(({ turn }) => turn).slice(1), [first.turn]);
  assert.ok((await read.generate(said("More?"), { at: first.turn, render: "template" }).result).turn);
  await read.close();
  await assert.rejects(read.get(), UnknownSession);
});
