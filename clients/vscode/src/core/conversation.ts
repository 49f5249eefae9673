import type { GenerateResult, Message } from "mlx-sidecar";
import { type Advice, adviceFor } from "./advice.js";
import type { Engine } from "./engine.js";
import { type Loader } from "./loader.js";
import { unlessAborted } from "./memo.js";
import { chatModel, type Settings } from "./settings.js";
import { type Speed, speedOf } from "./status.js";

/** `stopped`: by the user. `length`: `chat.maxTokens` or the context was full. `failed`: `advice` says why. */
export type TurnState = "waiting" | "answering" | "done" | "stopped" | "length" | "failed";

/** A question or an answer. */
export interface Turn {
  readonly id: number;
  readonly role: "user" | "assistant";
  text: string;
  /** What the model has thought before its answer. */
  reasoning: string;
  state: TurnState;
  /** Of an answer: the model that gave it. */
  model?: string;
  advice?: Advice;
  speed?: Speed;
}

export interface ConversationListeners {
  /** Turns were added, taken away, or have another state. */
  onChange(): void;
  /** An answer has more text. The next piece waits until this settles, so that a slow view slows the engine down. */
  onDelta(turn: Turn, text: string, reasoning: string): PromiseLike<unknown>;
  onResult(model: string, result: GenerateResult): void;
  onRunning(count: number): void;
}

/** A chat: questions, answers, and at most one answer that is coming. */
export class Conversation {
  readonly turns: Turn[] = [];
  readonly #engine: Engine;
  readonly #loader: Loader;
  readonly #settings: () => Settings;
  readonly #listeners: ConversationListeners;
  #answering: AbortController | undefined;
  #lastId = 0;
  #running = 0;

  constructor(engine: Engine, loader: Loader, settings: () => Settings, listeners: ConversationListeners) {
    this.#engine = engine;
    this.#loader = loader;
    this.#settings = settings;
    this.#listeners = listeners;
  }

  get isAnswering(): boolean {
    return this.#answering !== undefined;
  }

  /** Asks, and settles when the answer has ended, however it did. Does nothing for an empty question, or while an answer is coming. */
  async ask(question: string): Promise<void> {
    if (this.isAnswering || question.trim() === "") return;
    this.#add("user", question, "done");
    await this.#answer();
  }

  /** Asks the last question again; its answer is replaced. */
  async retry(): Promise<void> {
    if (this.isAnswering) return;
    while (this.turns.at(-1)?.role === "assistant") this.turns.pop();
    if (this.turns.length > 0) await this.#answer();
  }

  /** Ends the answer that is coming; its text so far stays. */
  stop(): void {
    this.#answering?.abort();
  }

  /** Begins anew; an answer that is coming is left. */
  clear(): void {
    this.stop();
    this.#answering = undefined;
    this.turns.length = 0;
    this.#listeners.onChange();
  }

  #add(role: Turn["role"], text: string, state: TurnState): Turn {
    const turn: Turn = { id: ++this.#lastId, role, text, reasoning: "", state };
    this.turns.push(turn);
    return turn;
  }

  async #answer(): Promise<void> {
    const answering = (this.#answering = new AbortController());
    const settings = this.#settings();
    const messages = this.#messages(settings);
    const turn = this.#add("assistant", "", "waiting");
    turn.model = chatModel(settings);
    this.#count(+1);
    this.#listeners.onChange();
    try {
      await this.#generate(turn, turn.model, messages, settings, answering.signal);
    } catch (error) {
      turn.state = answering.signal.aborted ? "stopped" : "failed";
      if (turn.state === "failed") turn.advice = adviceFor(error);
    } finally {
      if (this.#answering === answering) this.#answering = undefined;
      this.#count(-1);
      this.#listeners.onChange();
    }
  }

  #count(change: number): void {
    this.#running += change;
    this.#listeners.onRunning(this.#running);
  }

  async #generate(turn: Turn, model: string, messages: Message[], settings: Settings, signal: AbortSignal): Promise<void> {
    const sidecar = await unlessAborted(this.#engine.sidecar(), signal);
    await unlessAborted(this.#loader.ready(sidecar, model), signal);
    const stream = sidecar.generate({ model, messages, ...optionsOf(settings), echo_text: false });
    signal.addEventListener("abort", () => stream.cancel(), { once: true });
    if (signal.aborted) stream.cancel();
    for await (const { text, reasoning = "" } of stream) {
      if (text === "" && reasoning === "") continue;
      turn.text += text;
      turn.reasoning += reasoning;
      if (turn.state === "waiting") {
        turn.state = "answering";
        this.#listeners.onChange();
      } else await this.#listeners.onDelta(turn, text, reasoning);
    }
    this.#end(turn, await stream.result, signal);
  }

  #end(turn: Turn, result: GenerateResult, signal: AbortSignal): void {
    if (signal.aborted) turn.state = "stopped";
    else turn.state = result.finish_reason === "length" ? "length" : "done";
    turn.speed = speedOf(turn.model ?? "", result);
    this.#listeners.onResult(turn.model ?? "", result);
  }

  /** What is sent: answers that failed before their first word are left out, and so are their questions. */
  #messages(settings: Settings): Message[] {
    const messages: Message[] = settings["chat.system"] === "" ? [] : [{ role: "system", content: settings["chat.system"] }];
    for (const [at, turn] of this.turns.entries()) {
      const answer = turn.role === "user" ? this.turns[at + 1] : turn;
      if (answer === undefined || !isEmpty(answer)) messages.push(messageOf(turn));
    }
    return messages;
  }
}

function isEmpty(answer: Turn): boolean {
  return answer.role === "assistant" && answer.text === "" && answer.reasoning === "";
}

function messageOf({ role, text, reasoning }: Turn): Message {
  const content = text.toWellFormed();
  return reasoning === "" ? { role, content } : { role, content, reasoning_content: reasoning };
}

function optionsOf(settings: Settings) {
  const budget = settings["chat.reasoningBudget"];
  return {
    max_tokens: settings["chat.maxTokens"],
    temperature: settings["chat.temperature"],
    escape_special: settings.escapeSpecialTokens,
    ...(budget === null ? {} : { reasoning_budget: budget }),
  };
}
