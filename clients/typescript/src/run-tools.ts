import type { StreamEvent } from "./events.js";
import type { Form } from "./forms.js";
import type { GenerateParams, NamedTool, ToolCall } from "./generated.js";
import { refuseOptions, type CallOptions } from "./options.js";
import { orAborted } from "./or-aborted.js";
import type { AnswerOptions, Sidecar } from "./sidecar.js";
import type { Answer } from "./stream.js";
import type { Tool } from "./tools.js";

type Message = NonNullable<GenerateParams["messages"]>[number];
type ToolChoice = NamedTool | "auto" | "none" | "required";

/** Parameters of each generation of a run. */
export type RunParams = Omit<
  AnswerOptions,
  "tools" | "tool_choice" | "response_format" | "output" | "echo_text"
> & {
  messages: readonly Message[];
  tools: readonly Tool[];
  /** Of the first generation, or of the first ones; later ones are `auto`. */
  tool_choice?: ToolChoice | readonly ToolChoice[];
  /**
   * The form of an answer that calls nothing: `parsed(run.result, form)` is its value. Generations that must call are
   * asked without it.
   */
  response_format?: Form | null | undefined;
};

/** A call that was dealt with, and the result that the model is told; `error` if it failed, or was declined. */
export interface ToolOutcome {
  readonly type: "tool_result";
  readonly call: ToolCall;
  readonly content: string;
  readonly error?: unknown;
}

export interface RunOptions extends CallOptions {
  /** Generations, at most (8). */
  maxRounds?: number | undefined;
  /** Every delta, and every call when it has its result. */
  onEvent?: ((event: StreamEvent | ToolOutcome) => void) | undefined;
  /** Asked before a call runs; false declines it. */
  onCall?: ((call: ToolCall) => boolean | void | Promise<boolean | void>) | undefined;
}

/** How a run ended. */
export interface ToolRun {
  /**
   * `answered`: the last generation called nothing. `max_rounds`: it called, and `messages` end with the results.
   * `tool_call_error`: it wrote something like a call that is none; `result` says why. Otherwise the `finish_reason`
   * that cut it off; its calls were not run.
   */
  readonly ended: "answered" | "max_rounds" | "tool_call_error" | "length" | "repeated" | "cancelled" | "deadline";
  /** Of the last generation. */
  readonly result: Answer;
  /** The conversation, in which each call has its result; without an answer that is not whole. */
  readonly messages: Message[];
  readonly outcomes: ToolOutcome[];
  readonly rounds: number;
}

/**
 * Has messages answered by a model that may call functions: generates, runs the calls, tells their results, and again
 * until there is an answer. Calls of one generation run one after the other. A function that fails does not end the
 * run, because the model is told of it. Aborting cancels the generation, or leaves the call that runs; the run then
 * fails with the signal's reason. It fails as {@link Sidecar.generate} does.
 *
 * @param sidecar The one that generates.
 * @param params `model`, `messages`, `tools`, and other parameters of each generation.
 * @param options How many rounds there may be, callbacks, and a `signal` that ends the run.
 */
export async function runTools(sidecar: Sidecar, params: RunParams, options: RunOptions = {}): Promise<ToolRun> {
  const { maxRounds = 8, signal, onEvent, onCall, ...unknown } = options;
  refuseOptions(unknown, "runTools");
  if (!(maxRounds >= 1)) throw new RangeError("maxRounds must be at least 1");
  const { tools, tool_choice, response_format, ...others } = params;
  if (new Set(tools.map(({ name }) => name)).size < tools.length) throw new TypeError("two tools have the same name");
  const choices = Array.isArray(tool_choice) ? (tool_choice as ToolChoice[]) : [(tool_choice ?? "auto") as ToolChoice];
  const messages = [...params.messages];
  const outcomes: ToolOutcome[] = [];
  for (let rounds = 1; ; rounds += 1) {
    const choice = choices[rounds - 1] ?? "auto";
    // Where calls must be, no answer has another form, and asking for one would be refused.
    const form = response_format != null && (choice === "auto" || choice === "none") ? { response_format } : {};
    const asked = { ...others, ...form, messages, tools, tool_choice: choice };
    const stream = sidecar.generate(asked, { signal });
    for await (const event of stream.events()) onEvent?.(event);
    const result = await stream.result;
    const broken = breakOf(result);
    if (broken !== undefined) return { ended: broken, result, messages, outcomes, rounds };
    messages.push(messageOf(result));
    for (const call of result.tool_calls ?? []) {
      const agreed = await orAborted(onCall?.(call), signal);
      const outcome = await outcomeOf(call, agreed, tools, signal);
      outcomes.push(outcome);
      messages.push({ role: "tool", tool_call_id: call.id, name: call.name, content: outcome.content });
      onEvent?.(outcome);
    }
    if (!result.tool_calls) return { ended: "answered", result, messages, outcomes, rounds };
    if (rounds === maxRounds) return { ended: "max_rounds", result, messages, outcomes, rounds };
  }
}

/** Why this result is not whole; undefined if it is an answer, or calls. */
function breakOf(result: Answer): ToolRun["ended"] | undefined {
  const { finish_reason, tool_calls, incomplete_tool_calls, tool_call_error } = result;
  if (finish_reason !== "stop" && finish_reason !== "tool_calls") return finish_reason as ToolRun["ended"];
  return incomplete_tool_calls || (tool_call_error && !tool_calls) ? "tool_call_error" : undefined;
}

/** The answer as the next prompt has it. */
function messageOf({ text, reasoning, tool_calls }: Answer): Message {
  const message: Message = { role: "assistant", content: text };
  if (reasoning) message.reasoning_content = reasoning;
  if (tool_calls) {
    message.tool_calls = tool_calls.map(({ id, ...named }) => ({ id, type: "function", function: named }));
  }
  return message;
}

async function outcomeOf(
  call: ToolCall,
  agreed: boolean | void,
  tools: readonly Tool[],
  signal: AbortSignal | undefined,
): Promise<ToolOutcome> {
  try {
    if (agreed === false) throw new Error("the user does not want this call");
    const tool = tools.find(({ name }) => name === call.name);
    if (tool === undefined) {
      throw new Error(`there is no tool ${call.name}; there are: ${tools.map(({ name }) => name).join(", ")}`);
    }
    const value = await orAborted(tool.call(call.arguments, { signal }), signal);
    return { type: "tool_result", call, content: typeof value === "string" ? value : (JSON.stringify(value) ?? "null") };
  } catch (error) {
    signal?.throwIfAborted();
    return { type: "tool_result", call, content: `error: ${String(error).replace(/^Error: /, "")}`, error };
  }
}
