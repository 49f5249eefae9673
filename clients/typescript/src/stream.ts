import "./disposal.js";
import { Channel } from "./channel.js";
import { Connection, type Receiver } from "./connection.js";
import { SidecarLost } from "./errors.js";
import { Channels, type StreamEvent } from "./events.js";
import { type Form, type Parsed, parsed } from "./forms.js";
import type { GenerateParams, GenerateResult, StreamDelta } from "./generated.js";
import { errorFrom, errorOf } from "./kinds.js";
import type { Supervisor } from "./supervisor.js";
import { type AnyTool, type Calls, calls } from "./tools.js";

/** How a generation ended, with its text: also where `echo_text: false` has saved sending it twice. */
export type Answer = GenerateResult & { text: string; tokens: number[] };

/**
 * A generation. It begins when it is made; iterating it gives its deltas, iterating `events()` the same by their
 * channels, and `result` is there afterwards.
 *
 * Leaving the iteration early cancels it, and so does the end of an `await using` block. The iteration and `result` fail
 * with the `RpcError` of its kind if the generation was refused or broke off, with `SidecarLost` if the process ended
 * after deltas had been taken, and with the reason of the signal if that was aborted.
 */
export class Stream<
  F extends Form | null | undefined = Form | null | undefined,
  T extends readonly AnyTool[] | null | undefined = readonly AnyTool[] | null | undefined,
> implements AsyncIterableIterator<StreamDelta, undefined>, AsyncDisposable {
  readonly #supervisor: Supervisor;
  readonly #params: GenerateParams;
  readonly #tools: T;
  readonly #signal: AbortSignal | undefined;
  readonly #channel = new Channel<StreamDelta>();
  readonly #receiver: Receiver;
  readonly #result: Promise<Answer>;
  #settle!: { resolve(answer: Answer): void; reject(error: unknown): void };
  readonly #partial: Promise<Answer | undefined>;
  #told!: (answer: Answer | undefined) => void;
  #isTold = false; // the sidecar has said how it ended, or never will
  #isHeld = false; // until it has, Node is kept from ending

  #connection: Connection | undefined; // that it runs on
  #id = 0;
  readonly #channels = new Channels();
  #text = "";
  #tokens: number[] = [];
  #lastSeq = -1;
  #acknowledged = -1;
  #isRead = false; // it is being iterated
  #isAwaited = false; // `result` was asked for
  #isLeft = false; // no more deltas are wanted
  #isSentAgain = false;
  #hasEnded = false;
  #mayBeStuck = false; // the reader has asked for `result`, and for no delta since

  /** @internal */
  constructor(supervisor: Supervisor, params: GenerateParams, tools: T, signal: AbortSignal | undefined) {
    this.#supervisor = supervisor;
    this.#params = params;
    this.#tools = tools;
    this.#signal = signal;
    this.#result = new Promise((resolve, reject) => (this.#settle = { resolve, reject }));
    this.#result.catch(() => {}); // a result that is not awaited may fail unseen
    this.#partial = new Promise((resolve) => (this.#told = resolve));
    this.#receiver = {
      delta: (delta) => this.#take(delta),
      result: (result) => this.#finish(result as GenerateResult),
      fail: (error) => this.#lose(error),
    };
    supervisor.enter();
    signal?.addEventListener("abort", this.#abort, { once: true });
    if (signal?.aborted) this.#abort();
    else void this.#begin();
  }

  /** Its name in notifications; undefined until it has been sent. */
  get name(): string | undefined {
    return this.#connection && Connection.streamOf(this.#id);
  }

  /** The text that has come until now. */
  get text(): string {
    return this.#text;
  }

  /** The reasoning that has come until now. */
  get reasoning(): string {
    return this.#channels.reasoning;
  }

  /** The tokens that have come until now. */
  get tokens(): readonly number[] {
    return this.#tokens;
  }

  /** How it ended. Unless it is being iterated, deltas do not wait for a reader; they are kept for a later one. */
  get result(): Promise<Answer> {
    this.#isAwaited = true;
    if (!this.#isRead) this.#acknowledge(this.#lastSeq);
    else if (this.#channel.isWithReader) this.#mayBeStuck = true;
    this.#warnIfStuck();
    return this.#result;
  }

  /**
   * All that there was when it ended, with its usage, however it ended: the result, also of a stream that broke off or was
   * aborted, where it waits for the sidecar to say so. Undefined if the generation never began, was refused, or was lost
   * with its process. Never fails.
   */
  get partial(): Promise<Answer | undefined> {
    if (!this.#isTold && !this.#isHeld) {
      this.#isHeld = true;
      this.#supervisor.enter(); // Node must not end before the answer to an abort
      void this.#partial.then(() => this.#supervisor.leave());
    }
    return this.#partial;
  }

  /** What the answer holds, by its `response_format`. Fails as `result` does, and with `IncompleteForm`. */
  get parsed(): Promise<Parsed<F>> {
    return this.result.then((answer) => parsed(answer, this.#params.response_format as F));
  }

  /** The whole calls, with the types that the schemas of `tools` give them. Fails as `result` does. */
  get calls(): Promise<Calls<T>> {
    return this.result.then((answer) => calls(answer, this.#tools) as Calls<T>);
  }

  /** The deltas by their channels. Leaving the iteration early cancels. */
  async *events(): AsyncGenerator<StreamEvent, undefined> {
    for await (const delta of this) yield* this.#channels.eventsOf(delta);
  }

  /** Ends it now: no more deltas, and `result` has the text so far. Waits for nothing; harmless after the end. */
  cancel(): void {
    if (this.#isLeft) return;
    this.#isLeft = true;
    this.#channel.stop();
    if (this.#hasEnded) return;
    if (this.#connection === undefined) {
      this.#tell(undefined);
      this.#fail(errorOf("cancelled", "cancelled before it began", {}));
    }
    else this.#connection.cancel(this.#id);
  }

  next(): Promise<IteratorResult<StreamDelta, undefined>> {
    this.#isRead = true;
    this.#mayBeStuck = false;
    if (this.#signal?.aborted) this.#abort();
    this.#acknowledge(this.#channel.taken - 1); // the reader asks for more, so it has taken these
    return this.#channel.next();
  }

  async return(): Promise<IteratorResult<StreamDelta, undefined>> {
    this.cancel();
    return { done: true, value: undefined };
  }

  [Symbol.asyncIterator](): this {
    this.#isRead = true;
    return this;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.cancel();
  }

  async #begin(): Promise<void> {
    try {
      const found = this.#supervisor.connection();
      const connection = found instanceof Connection ? found : await found;
      if (this.#hasEnded) return;
      this.#id = connection.send("generate", this.#params, this.#receiver);
      this.#connection = connection;
    } catch (error) {
      this.#tell(undefined);
      this.#fail(error);
    }
  }

  #take(delta: StreamDelta): void {
    this.#lastSeq = delta.seq;
    this.#text += delta.text;
    this.#channels.add(delta);
    for (const token of delta.tokens) this.#tokens.push(token);
    if (this.#isLeft) return;
    this.#channel.push(delta);
    if (this.#isAwaited && !this.#isRead) this.#acknowledge(delta.seq);
    this.#warnIfStuck();
  }

  /** A reader that waits for the result takes no delta, and with a full window the engine makes none. */
  #warnIfStuck(): void {
    const { window } = this.#params;
    if (!this.#mayBeStuck || this.#hasEnded || !window || this.#lastSeq - this.#acknowledged < window) return;
    this.#mayBeStuck = false;
    this.#supervisor.warn(
      "a loop over a stream asked for its result and takes no more deltas: if it awaits the result, it waits for ever, " +
        "because the engine waits for the loop. Await the result behind the loop, or break first",
    );
  }

  /** After every half of the window, so that the other half is on its way meanwhile. */
  #acknowledge(seq: number): void {
    const { window } = this.#params;
    if (!window || this.#hasEnded || this.#connection === undefined || 2 * (seq - this.#acknowledged) < window) return;
    this.#acknowledged = seq;
    this.#connection.notify("stream/ack", { stream: Connection.streamOf(this.#id), seq });
  }

  #finish(result: GenerateResult): void {
    const answer = { ...result, text: result.text ?? this.#text, tokens: result.tokens ?? this.#tokens };
    if (this.reasoning) answer.reasoning ??= this.reasoning;
    this.#tell(answer);
    if (result.finish_reason === "error") {
      const error = errorFrom(result.error ?? { code: 0, message: "the generation broke off" });
      error.result = answer;
      this.#fail(error);
    } else if (this.#end()) {
      this.#settle.resolve(answer);
      this.#channel.finish();
    }
  }

  /** The process has ended, or the request was refused. A stream without a delta taken can begin anew. */
  #lose(error: Error): void {
    if (!(error instanceof SidecarLost)) {
      this.#tell(undefined);
      return this.#fail(error);
    }
    if (this.#isLeft || this.#isSentAgain || this.#channel.taken > 0) {
      this.#tell(undefined);
      return this.#fail(error.anew(this.#text, this.#tokens));
    }
    this.#isSentAgain = true;
    this.#connection = undefined;
    [this.#text, this.#tokens, this.#lastSeq, this.#acknowledged] = ["", [], -1, -1];
    this.#channels.clear();
    this.#channel.clear();
    void this.#begin();
  }

  #tell(answer: Answer | undefined): void {
    this.#isTold = true;
    this.#told(answer);
  }

  #fail(reason: unknown): void {
    if (!this.#end()) return;
    this.#settle.reject(reason);
    this.#channel.finish({ reason });
  }

  readonly #abort = (): void => {
    if (this.#isLeft) return;
    this.#isLeft = true;
    const reason: unknown = this.#signal?.reason;
    this.#channel.stop({ reason });
    if (this.#connection === undefined) this.#tell(undefined);
    else if (!this.#hasEnded) this.#connection.cancel(this.#id);
    this.#fail(reason);
  };

  /** Whether it had not ended before. */
  #end(): boolean {
    if (this.#hasEnded) return false;
    this.#hasEnded = true;
    this.#signal?.removeEventListener("abort", this.#abort);
    this.#supervisor.leave();
    return true;
  }
}
