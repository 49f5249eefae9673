import type { StreamDelta } from "./generated.js";

/** More of an answer's text, of its reasoning, or of the arguments of a tool call, which are JSON text. */
export type StreamEvent =
  | { readonly type: "text"; readonly text: string }
  | { readonly type: "reasoning"; readonly text: string }
  | {
      readonly type: "tool_call";
      readonly index: number;
      readonly id: string;
      readonly name: string;
      readonly arguments: string;
    };

/** The channels of a stream as they have come: its reasoning, and the id and name of each call. */
export class Channels {
  #reasoning = "";
  readonly #heads = new Map<number, { id: string; name: string }>();

  get reasoning(): string {
    return this.#reasoning;
  }

  add({ reasoning, tool_calls = [] }: StreamDelta): void {
    this.#reasoning += reasoning ?? "";
    for (const { index, id, name } of tool_calls) {
      if (id !== undefined && name !== undefined) this.#heads.set(index, { id, name });
    }
  }

  /** The events of a delta that was added. Each fragment of a call has its id and name, which are sent once. */
  *eventsOf({ text, reasoning, tool_calls = [] }: StreamDelta): Generator<StreamEvent> {
    if (reasoning) yield { type: "reasoning", text: reasoning };
    if (text) yield { type: "text", text };
    for (const { index, arguments: fragment } of tool_calls) {
      if (fragment) yield { type: "tool_call", index, ...this.#heads.get(index)!, arguments: fragment };
    }
  }

  clear(): void {
    this.#reasoning = "";
    this.#heads.clear();
  }
}
