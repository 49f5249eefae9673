import { spawn, type ChildProcessWithoutNullStreams } from "node:child_process";
import type { Socket } from "node:net";
import { type Exit, SidecarLost } from "./errors.js";
import type { Environment } from "./executable.js";
import { LineSplitter } from "./lines.js";

const LAST_WORDS = 20; // lines of standard error that the message about a lost sidecar repeats at most
const LAST_WORDS_MS = 500; // for the pipes to end once the process has: its engine may hold them a little longer
const GRACE_MS = 5000; // for the process to end once it has left its pipes: it promises a second

export interface Listener {
  /** A line of standard output. An exception ends the process. */
  line(line: string): void;
  /** A line of standard error. */
  log(line: string): void;
  /** The process has ended; nothing follows. */
  end(lost: SidecarLost): void;
}

/** A child process that takes and gives lines, in a group of its own: Ctrl-C is for the host to act upon. */
export class LineProcess {
  readonly #child: ChildProcessWithoutNullStreams;
  readonly #listener: Listener;
  readonly #lastWords: string[] = [];
  readonly #open = new Set(["stdout", "stderr"]);
  #timer: NodeJS.Timeout | undefined;
  #exit: Exit | undefined;
  #fault: string | undefined;
  #ended = false;

  constructor(words: readonly string[], cwd: string | undefined, env: Environment, listener: Listener) {
    this.#listener = listener;
    const [command = "", ...args] = words;
    this.#child = spawn(command, args, { cwd, env, detached: true, stdio: "pipe" });
    this.#child.on("error", (error) => this.#break(`could not be started: ${error.message}`));
    this.#child.on("exit", (code, signal) => this.#exited({ code, signal }));
    // A broken pipe says that the process is going, or has closed its end on purpose, which is as good as gone.
    this.#child.stdin.on("error", () => this.#expectExit());
    this.#read("stdout", new LineSplitter(), (line) => listener.line(line));
    this.#read("stderr", new LineSplitter(), (line) => this.#logged(line));
  }

  /** Undefined if it could not be started. */
  get pid(): number | undefined {
    return this.#child.pid;
  }

  write(line: string): void {
    this.#child.stdin.write(`${line}\n`);
  }

  /** Ends its standard input. */
  end(): void {
    this.#child.stdin.end();
  }

  kill(because?: string): void {
    this.#fault ??= because;
    this.#child.kill("SIGKILL");
  }

  /** Whether it keeps this process from ending by itself. */
  hold(isHeld: boolean): void {
    const { stdin, stdout, stderr } = this.#child;
    // Its pipes are sockets, though their types do not say so.
    for (const handle of [this.#child, ...([stdin, stdout, stderr] as unknown as Socket[])]) {
      if (isHeld) handle.ref();
      else handle.unref();
    }
  }

  #read(name: "stdout" | "stderr", lines: LineSplitter, take: (line: string) => void): void {
    const pipe = this.#child[name];
    pipe.on("data", (chunk: Buffer) => {
      if (this.#ended || this.#fault !== undefined) return;
      try {
        for (const line of lines.feed(chunk)) take(line);
      } catch (error) {
        this.#break(`wrote what cannot be understood to ${name}: ${(error as Error).message}`);
      }
    });
    pipe.on("error", () => this.#expectExit());
    pipe.on("close", () => {
      this.#open.delete(name);
      if (name === "stdout") this.#expectExit();
      this.#settle();
    });
  }

  #logged(line: string): void {
    this.#lastWords.push(line);
    if (this.#lastWords.length > LAST_WORDS) this.#lastWords.shift();
    this.#listener.log(line);
  }

  #break(fault: string): void {
    this.kill(fault);
    if (this.#child.pid === undefined) this.#end();
  }

  /** Its pipes are no use any more: it must end soon, or be ended. */
  #expectExit(): void {
    if (this.#exit === undefined) this.#timer ??= setTimeout(() => this.kill(), GRACE_MS).unref();
  }

  #exited(exit: Exit): void {
    this.#exit = exit;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#end(), LAST_WORDS_MS);
    this.#settle();
  }

  /** Ends it once all its output has been read. A killed process has no last words to wait for. */
  #settle(): void {
    if (this.#exit === undefined || this.#open.has("stdout")) return;
    if (this.#exit.signal !== null || !this.#open.has("stderr")) this.#end();
  }

  #end(): void {
    if (this.#ended) return;
    this.#ended = true;
    clearTimeout(this.#timer);
    for (const pipe of [this.#child.stdin, this.#child.stdout, this.#child.stderr]) pipe.destroy();
    this.#listener.end(new SidecarLost(this.#epitaph(), this.#exit));
  }

  #epitaph(): string {
    const { code = null, signal = null } = this.#exit ?? {};
    const how = this.#fault ?? (signal !== null ? `was ended by ${signal}` : `exited with status ${code}`);
    const words = this.#lastWords.join("\n");
    return `the sidecar ${how}${words && `; its last words:\n${words}`}`;
  }
}
