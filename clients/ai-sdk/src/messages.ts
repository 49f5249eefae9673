import {
  type LanguageModelV3Message, type LanguageModelV3Prompt, type LanguageModelV3ToolResultPart,
  UnsupportedFunctionalityError,
} from "@ai-sdk/provider";
import type { Message } from "mlx-sidecar";

/**
 * A prompt of the AI SDK as messages of the protocol.
 *
 * @throws UnsupportedFunctionalityError It has files, or results of tools that a provider has run.
 */
export function messagesOf(prompt: LanguageModelV3Prompt): Message[] {
  return prompt.flatMap(messagesOfOne);
}

function messagesOfOne(message: LanguageModelV3Message): Message[] {
  switch (message.role) {
    case "system":
      return [{ role: "system", content: message.content }];
    case "user":
      return [{ role: "user", content: message.content.map((part) => textOf(part, "user")).join("") }];
    case "assistant":
      return [assistant(message)];
    case "tool":
      // An approval has done its work by now: the call has run, or its result says that it was denied.
      return message.content.flatMap((part) => (part.type === "tool-result" ? [toolResult(part)] : []));
  }
}

function textOf(part: { type: string; text?: string }, role: string): string {
  if (part.type === "text") return part.text ?? "";
  throw new UnsupportedFunctionalityError({ functionality: `parts of type ${part.type} in messages of ${role}` });
}

function assistant({ content }: LanguageModelV3Message & { role: "assistant" }): Message {
  const message: Message = { role: "assistant", content: "" };
  const calls = [];
  for (const part of content) {
    if (part.type === "reasoning") message.reasoning_content = (message.reasoning_content ?? "") + part.text;
    else if (part.type === "tool-call") {
      const named = { name: part.toolName, arguments: JSON.stringify(part.input ?? {}) };
      calls.push({ id: part.toolCallId, type: "function", function: named });
    } else message.content += textOf(part, "assistant");
  }
  if (calls.length > 0) message.tool_calls = calls;
  return message;
}

function toolResult({ toolCallId, toolName, output }: LanguageModelV3ToolResultPart): Message {
  return { role: "tool", tool_call_id: toolCallId, name: toolName, content: contentOf(output) };
}

function contentOf(output: LanguageModelV3ToolResultPart["output"]): string {
  switch (output.type) {
    case "text":
    case "error-text":
      return output.value;
    case "json":
    case "error-json":
      return JSON.stringify(output.value);
    case "execution-denied":
      return `error: ${output.reason ?? "the user does not want this call"}`;
    case "content":
      return output.value.map((part) => textOf(part, "tool")).join("");
  }
}
