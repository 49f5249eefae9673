import assert from "node:assert/strict";
import { chmodSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";
import { test } from "node:test";
import * as sidecarModule from "../dist/index.js";
import { findCommand } from "../dist/executable.js";
import { errorFrom } from "../dist/kinds.js";
import { COMMAND, fake } from "./support.mjs";

const { ERROR_CLASSES, ERRORS, ExecutableNotFound, FrameTooLarge, NestingTooDeep, RpcError, Sidecar, SidecarError } = sidecarModule;
const methods = new URL("../../../schemas/methods.json", import.meta.url);

test("every kind of error of the protocol is a class with its code", () => {
  const { errors } = JSON.parse(readFileSync(methods, "utf8"));
  assert.deepEqual(new Set(errors.map(({ kind }) => kind)), new Set(Object.keys(ERRORS)));
  for (const { kind, code, retryable } of errors) {
    const error = errorFrom({ code, message: "words", data: { kind, retryable, because: "so" } });
    assert.equal(error.constructor, ERROR_CLASSES[kind]);
    assert.equal(sidecarModule[error.constructor.name], ERROR_CLASSES[kind]);
    assert.equal(error.name, error.constructor.name);
    assert.deepEqual([error.kind, error.code, error.retryable], [kind, code, retryable]);
    assert.deepEqual([error.message, error.data.because], ["words", "so"]);
    assert.ok(error instanceof RpcError && error instanceof SidecarError && error instanceof Error);
  }
});

test("the README has every class of errors", () => {
  const readme = readFileSync(new URL("../README.md", import.meta.url), "utf8");
  const classes = Object.values(sidecarModule).filter((value) => value.prototype instanceof SidecarError);
  assert.deepEqual(classes.filter(({ name }) => !readme.includes(`\`${name}\``)), []);
});

test("an error of an unknown kind, or of none, is an RpcError as it was sent", () => {
  const newer = errorFrom({ code: -32099, message: "m", data: { kind: "sun_burnt", retryable: true, spf: 50 } });
  assert.equal(newer.constructor, RpcError);
  assert.deepEqual([newer.kind, newer.name, newer.code, newer.retryable, newer.data.spf], ["sun_burnt", "SunBurnt", -32099, true, 50]);
  for (const data of [undefined, null, 7, "toString", [], { kind: 3 }, { kind: "toString" }]) {
    assert.equal(errorFrom({ code: 1, message: "m", data }).constructor, RpcError);
  }
});

test("messages that the sidecar would not read are refused here, and those at the limit are not", async (t) => {
  const sidecar = await fake(t, { args: ["--frame-limit-bytes", "5000", "--nesting-limit", "20"] });
  const nested = (levels) => Array.from({ length: levels }).reduce((inner) => [inner], 1);
  const deep = (levels) => sidecar.complete({ model: "fake", messages: [{ role: "user", content: "x", more: nested(levels) }] });
  await assert.rejects(deep(30), (error) => error instanceof NestingTooDeep && error.data.limit === 20);
  await deep(16); // the frame, params, messages and the message are the other four
  await assert.rejects(deep(17), NestingTooDeep);
  const long = sidecar.tokenize({ model: "fake", text: "€".repeat(2000) });
  await assert.rejects(long, (error) => error instanceof FrameTooLarge && error.data.limit_bytes === 5000);
  assert.equal((await sidecar.tokenize({ model: "fake", text: "€".repeat(1600) })).count, 4800);
});

function folder(t) {
  const path = mkdtempSync(join(tmpdir(), "mlx-sidecar-"));
  t.after(() => rmSync(path, { recursive: true }));
  return path;
}

function executable(path) {
  writeFileSync(path, "#!/bin/sh\n");
  chmodSync(path, 0o755);
  return path;
}

test("the executable is what the host names, then what the environment does, then what is in PATH", (t) => {
  const [one, two] = [folder(t), folder(t)];
  const [inPath, named] = [executable(join(one, "mlx-sidecar")), executable(join(two, "other"))];
  writeFileSync(join(two, "mlx-sidecar"), "not executable");
  const PATH = `${two}:${one}`;
  assert.deepEqual(findCommand(undefined, { PATH }), [inPath]);
  assert.deepEqual(findCommand(undefined, { PATH, MLX_SIDECAR: named }), [named]);
  assert.deepEqual(findCommand(undefined, { PATH, MLX_SIDECAR: "other" }), [named]);
  assert.deepEqual(findCommand(inPath, { PATH, MLX_SIDECAR: named }), [inPath]);
  assert.deepEqual(findCommand(["other", "-m", "x"], { PATH }), [named, "-m", "x"]);
  assert.deepEqual(findCommand(relative(process.cwd(), named), { PATH }), [named]);
  symlinkSync(one, join(one, "loop"));
  assert.throws(() => findCommand(join(one, "loop"), {}), ExecutableNotFound);
});

test("where there is none the error says what was tried and what to install", async () => {
  const none = { PATH: "/nonexistent" };
  const spawned = (tried, options) => assert.rejects(Sidecar.spawn({ env: none, ...options }), (error) => {
    assert.ok(error instanceof ExecutableNotFound && error.kind === "executable_not_found");
    assert.match(error.message, /docs\/install\.md/);
    assert.match(error.message, tried);
    return true;
  });
  await spawned(/MLX_SIDECAR is not set, and mlx-sidecar is not on the search path/, {});
  await spawned(/MLX_SIDECAR names "nope"/, { env: { ...none, MLX_SIDECAR: "nope" } });
  await spawned(/command names "\/nope\/mlx-sidecar"/, { command: "/nope/mlx-sidecar" });
  await assert.rejects(Sidecar.spawn({ command: [] }), TypeError);
});

test("a process that does not come up is told of with its last words", async () => {
  const lost = { kind: "sidecar_lost", message: /exited with status 2; its last words:[^]*no option .--nonsense/ };
  await assert.rejects(Sidecar.spawn({ command: COMMAND, args: ["--nonsense"], onLog: () => {} }), lost);
  const nowhere = Sidecar.spawn({ command: COMMAND, cwd: "/nonexistent", onLog: () => {} });
  await assert.rejects(nowhere, { kind: "sidecar_lost", message: /could not be started/ });
});

test("starting can be aborted", async () => {
  const controller = new AbortController();
  const spawned = Sidecar.spawn({ command: COMMAND, args: ["--engine", "fake"], signal: controller.signal });
  controller.abort(new Error("never mind"));
  await assert.rejects(spawned, /never mind/);
});

test("an option that there is not is refused by its name, before anything begins", async (t) => {
  await assert.rejects(Sidecar.spawn({ command: COMMAND, options: ["--cache-dir"] }), { name: "TypeError", message: 'spawn has no option "options"' });
  const sidecar = await fake(t);
  const model = "fake?text=Yes.";
  assert.throws(() => sidecar.generate({ model, prompt: "x" }, { timeout: 5 }), { message: 'generate has no option "timeout"' });
  await assert.rejects(sidecar.complete({ model, prompt: "x" }, { timeout: 5 }), { message: 'generate has no option "timeout"' });
  await assert.rejects(sidecar.load({ model }, { progress: 1 }), { message: 'load has no option "progress"' });
  const run = sidecarModule.runTools(sidecar, { model, messages: [], tools: [] }, { rounds: 2 });
  await assert.rejects(run, { message: 'runTools has no option "rounds"' });
  assert.equal((await sidecar.complete({ model, prompt: "x" })).text, "Yes.");
});
