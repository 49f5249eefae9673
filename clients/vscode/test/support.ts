// Helpers of the tests. MLX_SIDECAR_TEST_COMMAND has the words in front of `serve`, as a JSON array.
import { after, type TestContext } from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import type { GenerateResult } from "mlx-sidecar";
import { Completer } from "../src/core/completer.js";
import { Engine, type EngineState } from "../src/core/engine.js";
import { Loader } from "../src/core/loader.js";
import { readSettings, type Settings } from "../src/core/settings.js";
import type { Source } from "../src/core/surroundings.js";

const named = process.env["MLX_SIDECAR_TEST_COMMAND"];
export const COMMAND = named === undefined ? ["mlx-sidecar"] : (JSON.parse(named) as string[]);
export const FAKE = ["--engine", "fake"];
export const ENDLESS = "fake?tokens=100000&delay_ms=1&context=200000";

/** Settings with these changes of the defaults. */
export function settingsWith(changes: Partial<Settings> = {}): Settings {
  return readSettings((name) => (changes as Record<string, unknown>)[name]);
}

/** An engine that is closed when the test ends, and the states that it told of. */
export function engineFor(t: TestContext, args: readonly string[] = FAKE, executable: string | readonly string[] = COMMAND) {
  const states: EngineState[] = [];
  const engine = new Engine({ executable, args }, { onState: (state) => states.push(state), onLog: () => {} });
  t.after(() => engine.close());
  return { engine, states };
}

/** One engine for all tests of a file, as a start takes longer than most of them. */
export function sharedEngine(args: readonly string[] = FAKE): Engine {
  const engine = new Engine({ executable: COMMAND, args }, { onState: () => {}, onLog: () => {} });
  after(() => engine.close());
  return engine;
}

export const loader = () => new Loader({ onLoading: () => {} });

/** A completer, its results, and how many generations ran after each change of that. */
export function completerFor(engine: Engine, wait = (ms: number, signal: AbortSignal): Promise<unknown> => pause(ms, undefined, { signal })) {
  const results: GenerateResult[] = [];
  const running: number[] = [];
  const listeners = { onResult: (_: string, result: GenerateResult) => results.push(result), onRunning: (count: number) => running.push(count) };
  return { completer: new Completer(engine, loader(), wait, listeners), results, running };
}

export function sourceOf(text: string): Source {
  return { length: text.length, slice: (start, end) => text.slice(start, end) };
}

/** A place in a text: where `|` is. */
export function placeIn(marked: string, document = "file:///a.py") {
  const offset = marked.indexOf("|");
  return { document, source: sourceOf(marked.slice(0, offset) + marked.slice(offset + 1)), offset };
}

export const never = new AbortController().signal;

/** A model of the fake engine that answers this text. */
export const saying = (text: string, more = "") => `fake?text=${encodeURIComponent(text)}${more}`;

/** A promise, and the function that settles it. */
export function deferred<Value = void>() {
  let resolve!: (value: Value) => void;
  const promise = new Promise<Value>((settle) => (resolve = settle));
  return { promise, resolve };
}
