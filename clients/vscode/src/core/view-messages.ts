import type { Remedy } from "./advice.js";
import type { Turn } from "./conversation.js";

/** All that the view shows. */
export interface ChatState {
  readonly turns: readonly Turn[];
  readonly isAnswering: boolean;
  readonly model: string;
}

/** From the extension to the view of the chat. */
export type ToView =
  | { readonly type: "state"; readonly state: ChatState }
  | { readonly type: "delta"; readonly id: number; readonly text: string; readonly reasoning: string }
  | { readonly type: "draft"; readonly text: string };

/** From the view of the chat to the extension. */
export type FromView =
  | { readonly type: "ready" | "stop" | "retry" }
  | { readonly type: "send" | "copy" | "insert"; readonly text: string }
  | { readonly type: "remedy"; readonly remedy: Remedy };

const PLAIN: readonly string[] = ["ready", "stop", "retry"];
const WITH_TEXT: readonly string[] = ["send", "copy", "insert"];

/**
 * A message of the view, checked: what a page sends is not trusted.
 *
 * @throws TypeError It is none of those above. The message names what is wrong.
 */
export function fromView(message: unknown): FromView {
  const { type, text, remedy } = (message ?? {}) as { type?: unknown; text?: unknown; remedy?: unknown };
  if (typeof type !== "string") throw new TypeError(`a message of the chat has no type: ${JSON.stringify(message)}`);
  if (PLAIN.includes(type)) return { type } as FromView;
  if (WITH_TEXT.includes(type)) {
    if (typeof text !== "string") throw new TypeError(`text: a message of type ${type} needs one`);
    return { type, text } as FromView;
  }
  if (type === "remedy" && isRemedy(remedy)) return { type, remedy };
  throw new TypeError(`type: ${type} is no message of the chat`);
}

function isRemedy(value: unknown): value is Remedy {
  const { label, action, model } = (value ?? {}) as Record<string, unknown>;
  return typeof label === "string" && typeof action === "string" && (model === undefined || typeof model === "string");
}
