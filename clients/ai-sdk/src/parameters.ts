import {
  InvalidArgumentError, type LanguageModelV3CallOptions, type SharedV3ProviderOptions, type SharedV3Warning,
} from "@ai-sdk/provider";
import type { AnswerOptions, Form, GenerateOptions, PlainTool } from "mlx-sidecar";
import { messagesOf } from "./messages.js";

/** The name under which the AI SDK carries what only this provider knows. */
export const NAME = "mlxSidecar";

// Parameters of `generate` that the AI SDK's own options make, or the client.
const TAKEN = [
  "model", "prompt", "messages", "tokens", "stream", "window", "echo_text", "output", "max_tokens", "temperature",
  "top_p", "top_k", "presence_penalty", "frequency_penalty", "stop", "seed", "response_format", "tools", "tool_choice",
  "session", "at", "render",
] as const;

/** `providerOptions.mlxSidecar`: parameters of the protocol's `generate` that the AI SDK has no option for. */
export type MlxSidecarParameters = Omit<AnswerOptions, (typeof TAKEN)[number]>;

/**
 * The protocol's parameters of a call, and what of the call is not done.
 *
 * @throws InvalidArgumentError A provider option is one that the AI SDK has an option of its own for.
 * @throws UnsupportedFunctionalityError The prompt has parts that no model here can read.
 */
export function parametersOf(
  model: string,
  options: LanguageModelV3CallOptions,
): { params: GenerateOptions; warnings: SharedV3Warning[] } {
  const warnings: SharedV3Warning[] = [];
  const tools = toolsOf(options, warnings);
  const params = {
    ...ownOptions(options.providerOptions),
    model,
    messages: messagesOf(options.prompt),
    ...given({
      max_tokens: options.maxOutputTokens,
      temperature: options.temperature,
      top_p: options.topP,
      top_k: options.topK,
      presence_penalty: options.presencePenalty,
      frequency_penalty: options.frequencyPenalty,
      stop: options.stopSequences,
      seed: options.seed,
      response_format: formOf(options.responseFormat),
    }),
    ...(tools.length > 0 ? { tools, ...given({ tool_choice: choiceOf(options.toolChoice) }) } : {}),
  };
  return { params: params as GenerateOptions, warnings };
}

/**
 * The options for this provider, which the sidecar checks by itself.
 *
 * @throws InvalidArgumentError One of them is `taken`.
 */
export function ownOptions(
  all: SharedV3ProviderOptions | undefined,
  taken: readonly string[] = TAKEN,
): Record<string, unknown> {
  const own = all?.[NAME] ?? {};
  for (const name of Object.keys(own)) {
    if (!taken.includes(name)) continue;
    const message = `${name} cannot be given this way: the AI SDK has an option for it, or none makes sense`;
    throw new InvalidArgumentError({ argument: `providerOptions.${NAME}.${name}`, message });
  }
  return own;
}

function toolsOf({ tools = [] }: LanguageModelV3CallOptions, warnings: SharedV3Warning[]): PlainTool[] {
  const plain: PlainTool[] = [];
  for (const tool of tools) {
    if (tool.type === "function") {
      const { name, description, inputSchema, strict } = tool;
      const parameters = inputSchema as Record<string, unknown>;
      plain.push({ type: "function", function: { name, parameters, ...given({ description, strict }) } });
    } else warnings.push({ type: "unsupported", feature: `the provider's tool ${tool.id}` });
  }
  return plain;
}

function choiceOf(choice: LanguageModelV3CallOptions["toolChoice"]): string | { name: string } | undefined {
  return choice?.type === "tool" ? { name: choice.toolName } : choice?.type;
}

function formOf(format: LanguageModelV3CallOptions["responseFormat"]): Form | undefined {
  if (format?.type !== "json") return undefined;
  const { schema } = format;
  return schema === undefined
    ? { type: "json_object" }
    : { type: "json_schema", schema: schema as Record<string, unknown> };
}

/** Without what is undefined, as which the AI SDK gives all that its caller has left out. */
function given<T extends object>(members: T): Partial<T> {
  return Object.fromEntries(Object.entries(members).filter(([, value]) => value !== undefined)) as Partial<T>;
}
