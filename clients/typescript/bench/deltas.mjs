// The cost of the client. Prints one JSON object: medians of several rounds, in which the ways of reading take turns.
//
//   live     the fake engine, at the pace of the engine
//   replay   the frames of such a run again, out of `cat`, so that the reader is the limit
//   first    from a request to its first delta, in milliseconds
//
// Usage: node bench/deltas.mjs [--quick], with the words in front of `serve` in MLX_SIDECAR_TEST_COMMAND.
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { availableParallelism, tmpdir } from "node:os";
import { join } from "node:path";
import { Sidecar } from "../dist/index.js";
import { COMMAND } from "../test/support.mjs";
import { RawPipe } from "./raw.mjs";
import { readWithVscode } from "./vscode.mjs";

const isQuick = process.argv.includes("--quick");
const STREAMS = 16;
const TOKENS = isQuick ? 200 : 4000; // of each stream
const FIRSTS = isQuick ? 5 : 300;
const WINDOW = 64; // as the client has it by default
const SERVE = ["serve", "--framing", "lines", "--engine", "fake"];
const model = `fake?tokens=${TOKENS}&delay_ms=1&context=100000`;
const request = { model, prompt: "Hello", seed: 1 };

const median = (numbers) => numbers.toSorted((a, b) => a - b)[Math.floor(numbers.length / 2)];
const rounded = (number, digits = 0) => Number(number.toFixed(digits));

/** How many deltas, in which time from the request to the last result, and in how much of it this process computed. */
async function timed(read) {
  const [start, cpu] = [performance.now(), process.cpuUsage()];
  const deltas = await read();
  const { user, system } = process.cpuUsage(cpu);
  return { deltas, seconds: (performance.now() - start) / 1000, cpu_s: (user + system) / 1e6 };
}

async function withClient(command, args) {
  const sidecar = await Sidecar.spawn({ command, args });
  const read = async () => {
    let deltas = 0;
    for await (const _ of sidecar.generate(request)) deltas += 1;
    return deltas;
  };
  const run = await timed(async () => {
    const counts = await Promise.all(Array.from({ length: STREAMS }, read));
    return counts.reduce((a, b) => a + b);
  });
  await sidecar.close();
  return run;
}

/** The same requests by hand, and all that is done with a line is to parse it. */
async function withRawPipe(command, window, keep = false) {
  const pipe = new RawPipe(command, keep);
  await pipe.greet();
  const run = await timed(() => pipe.streams(STREAMS, request, window));
  pipe.close();
  return { ...run, lines: pipe.kept };
}

/** Words in front of `serve` for a program that takes the requests of a run and then gives its frames. */
function player(folder, lines) {
  const frames = join(folder, "frames");
  writeFileSync(frames, lines.slice(1).map((line) => `${line}\n`).join(""));
  const script = `read -r line; printf '%s\\n' "$1"; for _ in $(seq ${STREAMS + 1}); do read -r line; done; cat "$0"
    while read -r line; do case $line in *'"shutdown"'*) printf '{"jsonrpc":"2.0","id":${STREAMS + 2},"result":{}}\\n';; *'"exit"'*) exit;; esac; done`;
  return ["/bin/sh", "-c", script, frames, lines[0]];
}

function headers(folder, lines) {
  const file = join(folder, "headers");
  const frames = lines.slice(1).map((line) => `Content-Length: ${Buffer.byteLength(line)}\r\n\r\n${line}`);
  writeFileSync(file, frames.join(""));
  return file;
}

async function rounds(count, ways) {
  const runs = Object.fromEntries(Object.keys(ways).map((name) => [name, []]));
  for (let round = 0; round < count; round++) {
    for (const [name, way] of Object.entries(ways)) runs[name].push(await way());
  }
  const rates = Object.entries(runs).map(([name, list]) => [
    name,
    {
      deltas: median(list.map(({ deltas }) => deltas)),
      deltas_per_s: rounded(median(list.map(({ deltas, seconds }) => deltas / seconds))),
      deltas_per_cpu_s: rounded(median(list.map(({ deltas, cpu_s }) => deltas / cpu_s))),
      tokens_per_s: rounded(median(list.map(({ seconds }) => (STREAMS * TOKENS) / seconds))),
    },
  ]);
  return Object.fromEntries(rates);
}

/** One request after the other, by turns, so that both wait for the same. */
async function firstDeltas() {
  const sidecar = await Sidecar.spawn({ command: COMMAND, args: ["--engine", "fake"] });
  const pipe = new RawPipe([...COMMAND, ...SERVE]);
  await pipe.greet();
  const short = { model: "fake?tokens=1", prompt: "Hello", seed: 1 };
  const [client_ms, raw_ms] = [[], []];
  for (let i = 0; i < FIRSTS; i++) {
    let start = performance.now();
    const stream = sidecar.generate(short);
    await stream.next();
    client_ms.push(performance.now() - start);
    await stream.result;
    start = performance.now();
    await pipe.firstDelta(short);
    raw_ms.push(performance.now() - start);
    await pipe.streams(0);
  }
  pipe.close();
  await sidecar.close();
  const [client, raw] = [median(client_ms), median(raw_ms)];
  return { requests: FIRSTS, client_ms: rounded(client, 3), raw_ms: rounded(raw, 3), difference_ms: rounded(client - raw, 3) };
}

const folder = mkdtempSync(join(tmpdir(), "mlx-sidecar-bench-"));
try {
  const { lines } = await withRawPipe([...COMMAND, ...SERVE], undefined, true);
  const play = player(folder, lines);
  const framed = headers(folder, lines);
  const live = await rounds(isQuick ? 1 : 3, {
    raw_pipe: () => withRawPipe([...COMMAND, ...SERVE], undefined),
    client: () => withClient(COMMAND, ["--engine", "fake"]),
  });
  const replay = await rounds(isQuick ? 1 : 9, {
    raw_pipe: () => withRawPipe([...play, ...SERVE], undefined),
    client: () => withClient(play, ["--engine", "fake"]),
    vscode_jsonrpc: () => timed(() => readWithVscode(framed, STREAMS)),
  });
  const first = await firstDeltas();
  const machine = { node: process.version, cpus: availableParallelism() };
  process.stdout.write(`${JSON.stringify({ machine, streams: STREAMS, window: WINDOW, live, replay, first }, null, 2)}\n`);
} finally {
  rmSync(folder, { recursive: true });
}
