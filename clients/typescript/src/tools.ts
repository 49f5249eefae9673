import { InvalidArguments } from "./errors.js";
import type { FromSchema, Schema } from "./forms.js";
import type { GenerateResult, ToolCall } from "./generated.js";
import { faultIn } from "./validation.js";

/** How a function that a model may call is described, and the function. */
export interface ToolDefinition<Name extends string, Parameters extends Schema> {
  readonly name: Name;
  /** For the model to read. */
  readonly description?: string;
  /** The JSON Schema of an object. Written in place, or `as const`, it gives the arguments their types. */
  readonly parameters: Parameters;
  /** Whether the engine keeps the arguments of calls to the schema. */
  readonly strict?: boolean;
  /** What a call does; its result is told to the model, a text as it is and all else as JSON. */
  readonly run: (args: FromSchema<Parameters>, context: ToolContext) => unknown;
}

/** What a function is given beside its arguments. */
export interface ToolContext {
  /** Aborted when the run is. */
  readonly signal: AbortSignal | undefined;
}

/** A function that a model may call: an element of `tools`. Made by {@link tool}. */
export class Tool<Name extends string = string, Parameters extends Schema = Schema> {
  readonly name: Name;
  readonly parameters: Parameters;
  readonly #described: { readonly name: Name; readonly parameters: Parameters };
  // Without the type of its arguments, so that any tool is a Tool. They are checked against the schema.
  readonly #run: (args: unknown, context: ToolContext) => unknown;

  /** @internal */
  constructor({ run, ...described }: ToolDefinition<Name, Parameters>) {
    this.name = described.name;
    this.parameters = described.parameters;
    this.#described = described;
    this.#run = run as (args: unknown, context: ToolContext) => unknown;
  }

  /**
   * Calls the function with the JSON text of a call's arguments. Fails with `InvalidArguments` if they are not valid.
   *
   * @param args JSON text, as a call of an answer has it.
   * @param context What the function is given beside its arguments.
   */
  async call(args: string, context: ToolContext): Promise<unknown> {
    return this.#run(checked(this.name, args, this.parameters), context);
  }

  /** As the protocol has it. */
  toJSON(): PlainTool {
    return { type: "function", function: this.#described };
  }
}

/** A tool as the protocol has it; `as const` its calls have types, too. */
export interface PlainTool {
  readonly type?: string;
  readonly function?: { readonly name: string; readonly parameters?: Schema };
  readonly [member: string]: unknown;
}

export type AnyTool = Tool | PlainTool;

/** `tools` of a request as the protocol has it, if there are any. */
export function plain({ tools }: { readonly tools?: readonly AnyTool[] | null | undefined }): { tools?: PlainTool[] } {
  return tools ? { tools: tools.map((each) => (each instanceof Tool ? each.toJSON() : each)) } : {};
}

/**
 * A function that a model may call. The types of its arguments come from the schema.
 *
 * @param definition Its name, its description for the model, the schema of its arguments, and the function itself.
 */
export function tool<const Name extends string, const Parameters extends Schema>(
  definition: ToolDefinition<Name, Parameters>,
): Tool<Name, Parameters> {
  return new Tool(definition);
}

/** A whole call of an answer. */
export class Call<Name extends string = string, Args = unknown> {
  readonly id: string;
  readonly name: Name;
  /** JSON text. */
  readonly arguments: string;
  readonly #parameters: Schema | undefined;

  /** @internal */
  constructor(call: ToolCall, parameters: Schema | undefined) {
    this.id = call.id;
    this.name = call.name as Name;
    this.arguments = call.arguments;
    this.#parameters = parameters;
  }

  /**
   * What `arguments` hold.
   *
   * @throws InvalidArguments They are not valid under the tool's schema, or there is no tool of this name.
   */
  parsed(): Args {
    if (this.#parameters === undefined) throw new InvalidArguments(this.name, "there is no tool of this name");
    return checked(this.name, this.arguments, this.#parameters) as Args;
  }
}

type CallOf<T> =
  T extends Tool<infer Name, infer Parameters>
    ? Call<Name, FromSchema<Parameters>>
    : T extends { readonly function: { readonly name: infer Name extends string; readonly parameters: infer Parameters } }
      ? Call<Name, FromSchema<Parameters>>
      : Call<string, Record<string, unknown>>;

/** The calls of a generation that was given these tools. */
export type Calls<T> = T extends readonly (infer Each)[] ? CallOf<Each>[] : Call<string, Record<string, unknown>>[];

/**
 * The whole calls of `answer`, which was asked for with `tools`.
 *
 * @param answer The result of a generation.
 * @param tools The `tools` that it was asked for with.
 */
export function calls<const T extends readonly AnyTool[] | null | undefined>(
  answer: Pick<GenerateResult, "tool_calls">,
  tools: T,
): Calls<T> {
  const schemas = new Map((tools ?? []).map(parametersOf));
  return (answer.tool_calls ?? []).map((call) => new Call(call, schemas.get(call.name))) as Calls<T>;
}

function parametersOf(given: AnyTool): [name: string, parameters: Schema] {
  if (given instanceof Tool) return [given.name, given.parameters];
  const { name, parameters = {} } = given.function ?? (given as { name?: string; parameters?: Schema });
  return [name ?? "", parameters];
}

function checked(name: string, args: string, parameters: Schema): unknown {
  const value: unknown = JSON.parse(args);
  const fault = faultIn(value, parameters);
  if (fault !== undefined) throw new InvalidArguments(name, fault);
  return value;
}
