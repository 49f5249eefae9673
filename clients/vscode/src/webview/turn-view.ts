import type { Turn } from "../core/conversation.js";
import type { FromView } from "../core/view-messages.js";
import { button, element } from "./elements.js";
import { draw } from "./markdown.js";

/** One question or answer on the page. */
export class TurnView {
  readonly root: HTMLElement;
  readonly #post: (message: FromView) => void;
  readonly #body = element("div", { class: "body" });
  readonly #reasoning = element("div", { class: "thoughts" });
  readonly #summary = element("summary");
  readonly #fold = element("details", { class: "reasoning" }, this.#summary, this.#reasoning);
  readonly #foot = element("div", { class: "foot" });
  #turn: Turn;
  #frame: number | undefined;

  constructor(turn: Turn, post: (message: FromView) => void) {
    this.#turn = turn;
    this.#post = post;
    const name = element("div", { class: "name" }, turn.role === "user" ? "You" : (turn.model ?? ""));
    this.root = element("article", { class: `turn ${turn.role}`, "data-id": String(turn.id) }, name, this.#fold, this.#body, this.#foot);
  }

  /** Shows the turn as it is now. `isLast`: it is the end of the chat, and may be asked for again. */
  show(turn: Turn, isLast: boolean): void {
    this.#turn = { ...turn };
    this.root.dataset["state"] = turn.state;
    this.#foot.replaceChildren(...this.#notes(), ...(isLast ? this.#buttons() : []));
    this.#draw();
  }

  /** Adds to it. It is drawn with the next frame, however many pieces come before. */
  add(text: string, reasoning: string): void {
    this.#turn.text += text;
    this.#turn.reasoning += reasoning;
    this.#frame ??= requestAnimationFrame(() => this.#draw());
  }

  #draw(): void {
    if (this.#frame !== undefined) cancelAnimationFrame(this.#frame);
    this.#frame = undefined;
    const { text, reasoning, state } = this.#turn;
    this.#fold.hidden = reasoning === "";
    this.#summary.textContent = state === "answering" && text === "" ? "Reasoning…" : "Reasoning";
    this.#reasoning.textContent = reasoning;
    if (state === "waiting") this.#body.textContent = "…";
    else draw(this.#body, text, this.#post);
  }

  *#notes(): Generator<HTMLElement> {
    const { state, advice, speed } = this.#turn;
    if (state === "stopped") yield element("span", {}, "Stopped.");
    if (state === "length") yield element("span", {}, "Cut off: chat.maxTokens was reached, or the context is full.");
    if (advice) {
      yield element("p", { class: "error", role: "alert" }, advice.message);
      for (const remedy of advice.remedies) yield button(remedy.label, () => this.#post({ type: "remedy", remedy }));
    }
    if (speed?.tokensPerSecond !== undefined) {
      yield element("span", { class: "speed" }, `${speed.tokens} tokens, ${speed.tokensPerSecond.toFixed(0)} tokens/s`);
    }
  }

  *#buttons(): Generator<HTMLElement> {
    const { role, text } = this.#turn;
    if (role === "user") return;
    yield button("Retry", () => this.#post({ type: "retry" }), { class: "retry" });
    if (text !== "") yield button("Copy Answer", () => this.#post({ type: "copy", text }));
  }
}
