import type {
  JSONObject, LanguageModelV3Content, LanguageModelV3FinishReason, LanguageModelV3Usage, SharedV3ProviderMetadata,
} from "@ai-sdk/provider";
import type { GenerateResult } from "mlx-sidecar";
import { NAME } from "./parameters.js";

const UNIFIED: Record<string, LanguageModelV3FinishReason["unified"]> = {
  stop: "stop",
  tool_calls: "tool-calls",
  length: "length",
  error: "error",
};

/** What an answer holds, in the order in which models write it. */
export function contentOf({ reasoning, text, tool_calls = [] }: GenerateResult): LanguageModelV3Content[] {
  return [
    ...(reasoning ? [{ type: "reasoning" as const, text: reasoning }] : []),
    ...(text ? [{ type: "text" as const, text }] : []),
    ...tool_calls.map(callOf),
  ];
}

/** A whole call of an answer. */
export function callOf({ id, name, arguments: input }: NonNullable<GenerateResult["tool_calls"]>[number]) {
  return { type: "tool-call" as const, toolCallId: id, toolName: name, input };
}

/** How an answer ended: `cancelled` and `deadline` are `other`. */
export function finishReasonOf({ finish_reason }: GenerateResult): LanguageModelV3FinishReason {
  return { unified: UNIFIED[finish_reason] ?? "other", raw: finish_reason };
}

/** Tokens of the prompt and of the answer. */
export function usageOf({ usage }: GenerateResult): LanguageModelV3Usage {
  const { prompt_tokens: total, cached_tokens: cacheRead, completion_tokens, reasoning_tokens } = usage;
  return {
    inputTokens: { total, noCache: total - cacheRead, cacheRead, cacheWrite: undefined },
    outputTokens: { total: completion_tokens, text: completion_tokens - (reasoning_tokens ?? 0), reasoning: reasoning_tokens },
    raw: usage as unknown as JSONObject,
  };
}

/** What the sidecar tells beyond that: seed and times, and why something like a call is none. */
export function metadataOf(result: GenerateResult): SharedV3ProviderMetadata {
  const { seed, timing, stop_match, tool_call_error, response_format, dropped_messages } = result;
  const told = { seed, timing, stop_match, tool_call_error, response_format, dropped_messages };
  return { [NAME]: JSON.parse(JSON.stringify(told)) as JSONObject };
}
