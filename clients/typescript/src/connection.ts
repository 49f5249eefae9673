import type { SidecarLost, WireError } from "./errors.js";
import type { Environment } from "./executable.js";
import { encode } from "./frame.js";
import { type InitializeResult, PROTOCOL_VERSION, type StreamDelta, VERSION } from "./generated.js";
import { errorFrom } from "./kinds.js";
import { LineProcess } from "./process.js";

const START_MS = 60_000; // for the first answer: Python's imports from a cold and slow disk
const GRACE_MS = 5000; // for the sidecar to leave on its own

/** How a process is started, and callbacks for its messages. */
export interface Launch {
  words: readonly string[];
  cwd: string | undefined;
  env: Environment;
  onNotification(method: string, params: unknown): void;
  /** A line of standard error. */
  onStderr(line: string): void;
}

/** Callbacks of a request: any number of deltas if it has `delta`, then one of the other two, once. */
export interface Receiver {
  result(result: unknown): void;
  fail(error: Error): void;
  delta?(delta: StreamDelta): void;
}

interface Message {
  id?: number | null;
  method?: string;
  params?: unknown;
  result?: unknown;
  error?: WireError;
}

/** One process and the conversation with it. */
export class Connection {
  /** Settles when the process has ended. */
  readonly ended: Promise<SidecarLost>;
  readonly #process: LineProcess;
  readonly #onNotification: Launch["onNotification"];
  readonly #receivers = new Map<number, Receiver>();
  readonly #streams = new Map<string, Receiver>();
  #lastId = 0;
  #lost: SidecarLost | undefined;
  #limits = { frame_bytes: 64 * 2 ** 20, nesting: 128 };

  /** `onEnd` comes before any request is failed. */
  constructor({ words, cwd, env, onNotification, onStderr }: Launch, onEnd: (lost: SidecarLost) => void) {
    this.#onNotification = onNotification;
    let settle: (lost: SidecarLost) => void;
    this.ended = new Promise((resolve) => (settle = resolve));
    const end = (lost: SidecarLost) => {
      this.#lost = lost;
      onEnd(lost);
      this.#failAll(lost);
      settle(lost);
    };
    this.#process = new LineProcess(words, cwd, env, { line: (line) => this.#take(line), log: onStderr, end });
  }

  get pid(): number | undefined {
    return this.#process.pid;
  }

  /** The name of the stream of a request. */
  static streamOf(id: number): string {
    return `s${id}`;
  }

  /** Agrees on a version, and gives the sidecar's description of itself. */
  async initialize(): Promise<InitializeResult> {
    const client = { name: "mlx-sidecar (Node)", version: VERSION };
    const hello = { protocol_version: PROTOCOL_VERSION, client, process_id: process.pid };
    const timer = setTimeout(() => this.kill(`did not answer within ${START_MS / 1000} seconds`), START_MS).unref();
    const initialized = (await this.request("initialize", hello)) as InitializeResult;
    clearTimeout(timer);
    this.#limits = initialized.limits;
    this.notify("initialized", {});
    return initialized;
  }

  /**
   * Sends a request, and gives its id.
   *
   * @throws TypeError, FrameTooLarge, NestingTooDeep It cannot be sent.
   * @throws SidecarLost The process has ended.
   */
  send(method: string, params: object, receiver: Receiver): number {
    if (this.#lost !== undefined) throw this.#lost.anew();
    const id = this.#lastId + 1;
    const stream = Connection.streamOf(id);
    const named = receiver.delta === undefined ? params : { ...params, stream };
    this.#process.write(encode({ jsonrpc: "2.0", id, method, params: named }, this.#limits));
    this.#lastId = id;
    this.#receivers.set(id, receiver);
    if (receiver.delta !== undefined) this.#streams.set(stream, receiver);
    return id;
  }

  /** Sends a request, and gives its result. Aborting cancels it, and waits for no answer. */
  request(method: string, params: object, signal?: AbortSignal): Promise<unknown> {
    return new Promise((resolve, reject) => {
      signal?.throwIfAborted();
      const settled = () => signal?.removeEventListener("abort", abort);
      const receiver: Receiver = {
        result: (result) => (settled(), resolve(result)),
        fail: (error) => (settled(), reject(error)),
      };
      const id = this.send(method, params, receiver);
      const abort = () => {
        this.#forget(id);
        this.cancel(id);
        reject(signal?.reason);
      };
      signal?.addEventListener("abort", abort, { once: true });
    });
  }

  /** Sends a notification, unless the sidecar has ended. */
  notify(method: string, params: object): void {
    if (this.#lost === undefined) this.#process.write(encode({ jsonrpc: "2.0", method, params }, this.#limits));
  }

  /** Asks for the end of a request, which is answered still. */
  cancel(id: number): void {
    this.notify("$/cancelRequest", { id });
  }

  /** Whether the process keeps this one from ending by itself. */
  hold(isHeld: boolean): void {
    this.#process.hold(isHeld);
  }

  /** Asks the process to end, and sees to it that it does. */
  async close(): Promise<void> {
    const timer = setTimeout(() => this.kill(), GRACE_MS);
    try {
      await this.request("shutdown", { cancel: true });
      this.notify("exit", {});
      this.#process.end();
    } catch {
      this.kill(); // it does not end by itself, or has ended already, as it should
    }
    await this.ended;
    clearTimeout(timer);
  }

  kill(because?: string): void {
    this.#process.kill(because);
  }

  #take(line: string): void {
    const message = JSON.parse(line) as Message | null;
    if (typeof message !== "object" || message === null) throw new TypeError(`no message: ${line.slice(0, 100)}`);
    if (message.method === "stream/delta") this.#takeDelta(message.params as StreamDelta);
    else if (message.method !== undefined) this.#onNotification(message.method, message.params);
    else if (typeof message.id === "number") this.#takeAnswer(message.id, message);
    // The rest are errors without an id, about messages that we do not send.
  }

  #takeDelta(delta: StreamDelta): void {
    const receiver = this.#streams.get(delta.stream as string);
    if (receiver?.delta !== undefined) receiver.delta(delta);
    else this.#onNotification("stream/delta", delta);
  }

  #takeAnswer(id: number, { result, error }: Message): void {
    const receiver = this.#forget(id);
    if (error) receiver?.fail(errorFrom(error));
    else receiver?.result(result);
  }

  #forget(id: number): Receiver | undefined {
    const receiver = this.#receivers.get(id);
    this.#receivers.delete(id);
    this.#streams.delete(Connection.streamOf(id));
    return receiver;
  }

  #failAll(lost: SidecarLost): void {
    const receivers = [...this.#receivers.values()];
    this.#receivers.clear();
    this.#streams.clear();
    for (const receiver of receivers) receiver.fail(lost.anew());
  }
}
