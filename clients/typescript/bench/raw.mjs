import { spawn } from "node:child_process";
import { StringDecoder } from "node:string_decoder";

/** The least that reads the protocol: bytes are cut at line feeds and parsed. */
export class RawPipe {
  kept = [];
  #child;
  #lastId = 0;
  #deltas = 0;
  #open = 0;
  #onDelta = () => {};
  #onDone = () => {};

  constructor([command, ...args], keep = false) {
    this.#child = spawn(command, args, { stdio: ["pipe", "pipe", "inherit"] });
    const decoder = new StringDecoder();
    let rest = "";
    this.#child.stdout.on("data", (chunk) => {
      const lines = (rest + decoder.write(chunk)).split("\n");
      rest = lines.pop();
      for (const line of lines) {
        if (keep && !line.includes('"engine/state"')) this.kept.push(line);
        this.#take(JSON.parse(line));
      }
    });
  }

  async greet() {
    await new Promise((resolve) => {
      this.#onDone = resolve;
      this.#request("initialize", { protocol_version: 1, client: { name: "raw" } });
    });
    this.#child.stdin.write('{"jsonrpc":"2.0","method":"initialized"}\n');
  }

  /** Runs so many generations at once to their ends, with 0 those that run already; gives how many deltas they had. */
  streams(count, params, window) {
    this.#deltas = 0;
    return new Promise((resolve) => {
      this.#onDone = () => resolve(this.#deltas);
      for (let i = 0; i < count; i++) this.#generate({ ...params, window });
      if (this.#open === 0) resolve(0);
    });
  }

  firstDelta(params) {
    return new Promise((resolve) => {
      this.#onDone = () => {};
      this.#onDelta = resolve;
      this.#generate(params);
    });
  }

  close() {
    this.#child.kill("SIGKILL");
  }

  #generate(params) {
    this.#request("generate", { ...params, stream: `s${this.#lastId + 1}` });
  }

  #request(method, params) {
    this.#open += 1;
    this.#child.stdin.write(`${JSON.stringify({ jsonrpc: "2.0", id: ++this.#lastId, method, params })}\n`);
  }

  #take(message) {
    if (message.method === "stream/delta") {
      this.#deltas += 1;
      this.#onDelta(message.params);
    } else if (message.id !== undefined && --this.#open === 0) {
      this.#onDone();
    }
  }
}
