// Helpers of the tests. MLX_SIDECAR_TEST_COMMAND has the words in front of `serve`, as a JSON array.
import { execFileSync, spawn } from "node:child_process";
import { createReadStream, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Sidecar } from "../dist/index.js";

const named = process.env["MLX_SIDECAR_TEST_COMMAND"];
export const COMMAND = named === undefined ? ["mlx-sidecar"] : JSON.parse(named);
export const ENDLESS = "fake?tokens=100000&delay_ms=1&context=200000";

/** A sidecar with the fake engine that is closed when the test ends. */
export async function fake(test, options = {}) {
  const args = ["--engine", "fake", ...(options.args ?? [])];
  const sidecar = await Sidecar.spawn({ command: COMMAND, onLog: () => {}, ...options, args });
  test.after(() => sidecar.close());
  return sidecar;
}

/** Words in front of `serve` for a script that plays a sidecar. `read()` gives its next message. */
export function scriptedCommand(script) {
  const source = `
    import { createInterface } from "node:readline";
    const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
    const read = async () => JSON.parse((await lines.next()).value ?? process.exit());
    const write = (message) => process.stdout.write(JSON.stringify({ jsonrpc: "2.0", ...message }) + "\\n");
    const answer = ({ id }, result) => write({ id, result });
    const limits = { frame_bytes: 2 ** 26, nesting: 128 };
    answer(await read(), { protocol_version: 1, server: {}, instance: "i", capabilities: {}, limits });
    await read();
    ${script}
    for (;;) {
      const request = await read();
      if (request.method === "exit") process.exit();
      if (request.id !== undefined) answer(request, {});
    }`;
  return [process.execPath, "--input-type=module", "--eval", source, "--"];
}

/** A sidecar that is such a script. */
export async function scripted(test, script, options = {}) {
  const sidecar = await Sidecar.spawn({ command: scriptedCommand(script), onLog: () => {}, ...options });
  test.after(() => sidecar.close());
  return sidecar;
}

/** The rest of an iterator's items. */
export async function rest(stream) {
  const deltas = [];
  for await (const delta of stream) deltas.push(delta);
  return deltas;
}

export const textOf = (deltas) => deltas.map(({ text }) => text).join("");

/** Kills the process of a sidecar as the system would. */
export const kill = (sidecar) => process.kill(sidecar.pid, "SIGKILL");

/**
 * Words in front of `serve` whose process, and that of its engine, hold a pipe open as long as they live; and a promise
 * that settles when the pipe is closed.
 */
export function watched(test) {
  const folder = mkdtempSync(join(tmpdir(), "mlx-sidecar-"));
  test.after(() => rmSync(folder, { recursive: true }));
  const pipe = join(folder, "pipe");
  execFileSync("mkfifo", [pipe]);
  const gone = new Promise((resolve, reject) => {
    createReadStream(pipe).on("end", resolve).on("error", reject).resume();
  });
  return { command: ["/bin/sh", "-c", 'exec 2>"$0"; exec "$@"', pipe, ...COMMAND], gone };
}

/** Another Node process that is a host. Its source may use Sidecar, options, `args` and `ready()`, which lets us go on. */
export function host(test, command, source) {
  const index = new URL("../dist/index.js", import.meta.url).href;
  const program = `
    import { Sidecar } from ${JSON.stringify(index)};
    const options = { command: ${JSON.stringify(command)}, args: ["--engine", "fake"] };
    const ready = () => process.stdout.write("ready\\n");
    ${source}`;
  const child = spawn(process.execPath, ["--input-type=module", "--eval", program], { stdio: ["ignore", "pipe", "inherit"] });
  test.after(() => child.kill("SIGKILL"));
  return child;
}
