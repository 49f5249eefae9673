import type { Sidecar } from "mlx-sidecar";

/** How a family of models is told the text before and after a gap: by control tokens, in an order of its own. */
interface Family {
  readonly prefix: string;
  readonly suffix: string;
  /** Ends the prompt. Without it the text before the gap does. */
  readonly middle?: string;
  /** Control tokens, beside the marks, with which such a model goes on to another file when the gap is filled. */
  readonly ends: readonly string[];
}

const FAMILIES: readonly Family[] = [
  // Qwen, CodeGemma, pocket
  {
    prefix: "<|fim_prefix|>",
    suffix: "<|fim_suffix|>",
    middle: "<|fim_middle|>",
    ends: ["<|endoftext|>", "<|fim_pad|>", "<|repo_name|>", "<|file_sep|>", "<|file_separator|>"],
  },
  // StarCoder, Granite
  { prefix: "<fim_prefix>", suffix: "<fim_suffix>", middle: "<fim_middle>", ends: ["<|endoftext|>", "<fim_pad>", "<file_sep>"] },
  // SantaCoder
  { prefix: "<fim-prefix>", suffix: "<fim-suffix>", middle: "<fim-middle>", ends: ["<|endoftext|>", "<fim-pad>"] },
  // DeepSeek
  { prefix: "<｜fim▁begin｜>", suffix: "<｜fim▁hole｜>", middle: "<｜fim▁end｜>", ends: ["<｜end▁of▁sentence｜>"] },
  // CodeLlama
  { prefix: "▁<PRE>", suffix: "▁<SUF>", middle: "▁<MID>", ends: ["▁<EOT>"] },
  { prefix: "<PRE>", suffix: "<SUF>", middle: "<MID>", ends: ["<EOT>"] },
  // Codestral
  { prefix: "[PREFIX]", suffix: "[SUFFIX]", ends: [] },
];

/** The control tokens with which a model fills in the middle, as its tokenizer has them. */
export interface Filling {
  /** Tokens that the tokenizer puts in front of a prompt. */
  readonly lead: readonly number[];
  readonly prefix: number;
  readonly suffix: number;
  readonly middle: number | undefined;
  /** Tokens that end the filling. */
  readonly stops: readonly number[];
}

/** Finds how a model fills in the middle; undefined where its tokenizer has the marks of no family. */
export async function findFilling(sidecar: Sidecar, model: string): Promise<Filling | undefined> {
  const found = await Promise.all(FAMILIES.map((family) => fillingOf(sidecar, model, family)));
  return found.find((filling) => filling !== undefined);
}

async function fillingOf(sidecar: Sidecar, model: string, family: Family): Promise<Filling | undefined> {
  const single = (text: string) => singleToken(sidecar, model, text);
  const { prefix: begin, suffix: hole, middle: end = undefined } = family;
  const [prefix, suffix, middle] = await Promise.all([single(begin), single(hole), end === undefined ? undefined : single(end)]);
  if (prefix === undefined || suffix === undefined || (end !== undefined && middle === undefined)) return undefined;
  const ends = await Promise.all(family.ends.map(single));
  const { tokens } = await sidecar.tokenize({ model, text: begin, add_special: true });
  const stops = [prefix, suffix, middle, ...ends].filter((token) => token !== undefined);
  return { lead: tokens.slice(0, tokens.indexOf(prefix)), prefix, suffix, middle, stops };
}

/** The token that a text is, if it is one. */
async function singleToken(sidecar: Sidecar, model: string, text: string): Promise<number | undefined> {
  const { tokens } = await sidecar.tokenize({ model, text, add_special: false });
  return tokens.length === 1 ? tokens[0] : undefined;
}

/** The prompt that asks a model to fill the gap between two texts, which are given as tokens. */
export function fillingPrompt(filling: Filling, before: readonly number[], after: readonly number[]): number[] {
  const { lead, prefix, suffix, middle } = filling;
  return middle === undefined
    ? [...lead, suffix, ...after, prefix, ...before]
    : [...lead, prefix, ...before, suffix, ...after, middle];
}
