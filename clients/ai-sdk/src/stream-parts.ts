import type { LanguageModelV3StreamPart } from "@ai-sdk/provider";
import type { Answer, StreamEvent } from "mlx-sidecar";
import { callOf, finishReasonOf, metadataOf, usageOf } from "./results.js";

type Part = LanguageModelV3StreamPart;

/** Events of a stream as parts for the AI SDK, in which each piece of text, reasoning and input has a start and an end. */
export class StreamParts {
  #open: { type: "text" | "reasoning" | "tool-input"; id: string } | undefined;
  #count = 0;

  /** The parts of one more event. */
  *of(event: StreamEvent): Generator<Part> {
    if (event.type === "tool_call") {
      const { id, name: toolName } = event;
      if (this.#open?.id !== id) {
        yield* this.#end();
        this.#open = { type: "tool-input", id };
        yield { type: "tool-input-start", id, toolName };
      }
      yield { type: "tool-input-delta", id, delta: event.arguments };
      return;
    }
    if (this.#open?.type !== event.type) {
      yield* this.#end();
      this.#open = { type: event.type, id: String(this.#count++) };
      yield { type: `${event.type}-start`, id: this.#open.id };
    }
    yield { type: `${event.type}-delta`, id: this.#open.id, delta: event.text };
  }

  /** The parts behind the last event: the whole calls, and how the answer ended. */
  *last(answer: Answer): Generator<Part> {
    yield* this.#end();
    yield* (answer.tool_calls ?? []).map(callOf);
    const [finishReason, usage] = [finishReasonOf(answer), usageOf(answer)];
    yield { type: "finish", finishReason, usage, providerMetadata: metadataOf(answer) };
  }

  *#end(): Generator<Part> {
    if (this.#open !== undefined) yield { type: `${this.#open.type}-end`, id: this.#open.id };
    this.#open = undefined;
  }
}
