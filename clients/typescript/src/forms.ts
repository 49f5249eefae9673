import { IncompleteForm } from "./errors.js";
import type { GenerateResult, GrammarFormat, RegexFormat, TextFormat } from "./generated.js";

/** A JSON Schema. Written in place, or `as const`, it gives answers their type. */
export type Schema = { readonly [keyword: string]: unknown };

type Whitespace = "fixed" | "flexible";

/** What `response_format` of a generation may be. */
export type Form =
  | { readonly type: "json_schema"; readonly schema: Schema; readonly whitespace?: Whitespace }
  | { readonly type: "json_schema"; readonly json_schema: NamedSchema; readonly whitespace?: Whitespace }
  | { readonly type: "json_object"; readonly whitespace?: Whitespace }
  | { readonly type: "choice"; readonly choices: readonly string[] }
  | RegexFormat
  | GrammarFormat
  | TextFormat;

interface NamedSchema {
  readonly name?: string;
  readonly description?: string;
  readonly schema: Schema;
  readonly strict?: true;
}

/** The type of values that are valid under a schema; unknown where the schema says it in a way not followed here. */
export type FromSchema<S> = S extends { readonly const: infer Value }
  ? Value
  : S extends { readonly enum: readonly (infer Value)[] }
    ? Value
    : S extends { readonly anyOf: readonly (infer Each)[] } | { readonly oneOf: readonly (infer Each)[] }
      ? FromEach<Each>
      : S extends { readonly type: infer Type }
        ? FromType<S, Type extends readonly (infer Each)[] ? Each : Type>
        : unknown;

type FromEach<Each> = Each extends unknown ? FromSchema<Each> : never;

type FromType<S, Type> = Type extends "string"
  ? string
  : Type extends "number" | "integer"
    ? number
    : Type extends "boolean"
      ? boolean
      : Type extends "null"
        ? null
        : Type extends "array"
          ? S extends { readonly items: infer Items }
            ? FromSchema<Items>[]
            : unknown[]
          : Type extends "object"
            ? FromObject<S>
            : unknown;

type FromObject<S> = S extends { readonly properties: infer Properties }
  ? Flat<
      { [Name in keyof Properties & Required<S>]: FromSchema<Properties[Name]> } & {
        [Name in Exclude<keyof Properties, Required<S>>]?: FromSchema<Properties[Name]>;
      }
    >
  : S extends { readonly additionalProperties: infer Values }
    ? Record<string, FromSchema<Values>>
    : Record<string, unknown>;

type Required<S> = S extends { readonly required: readonly (infer Name)[] } ? Name : never;

type Flat<T> = { [Name in keyof T]: T[Name] };

/** What an answer of a form holds: the value of its JSON, or its text. */
export type Parsed<F> = F extends { readonly type: "json_schema"; readonly schema: infer S }
  ? FromSchema<S>
  : F extends { readonly type: "json_schema"; readonly json_schema: { readonly schema: infer S } }
    ? FromSchema<S>
    : F extends { readonly type: "json_object" }
      ? Record<string, unknown>
      : F extends { readonly type: "choice"; readonly choices: readonly (infer Choice)[] }
        ? Choice
        : string;

/**
 * What `answer` holds, which was asked for with `form` as its `response_format`.
 *
 * @param answer The result of a generation.
 * @param form The `response_format` that it was asked for with.
 * @throws IncompleteForm The answer was cut off before it had its form.
 */
export function parsed<const F extends Form | null | undefined>(
  answer: Pick<GenerateResult, "text" | "response_format" | "finish_reason">,
  form: F,
): Parsed<F> {
  const { text = "" } = answer;
  if (form?.type === undefined || form.type === "text") return text as Parsed<F>;
  if (answer.response_format?.complete !== true) throw new IncompleteForm(answer.finish_reason, text);
  const value: unknown = form.type.startsWith("json") ? json(text) : behindReasoning(text);
  return value as Parsed<F>;
}

function json(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return JSON.parse(behindReasoning(text));
  }
}

function behindReasoning(text: string): string {
  const at = text.indexOf(END_OF_REASONING);
  return at < 0 ? text : text.slice(at + END_OF_REASONING.length).replace(/^[ \n]+/, "");
}

const END_OF_REASONING = "</think>";
