import type { Surroundings } from "./surroundings.js";

/** How much is suggested: the rest of the line, or a block of lines. */
export type Shape = "line" | "block";

/** In the middle of a line only the rest of that line makes sense. */
export function shapeAt({ lineAfter }: Surroundings, multiline: boolean): Shape {
  return multiline && lineAfter.trim() === "" ? "block" : "line";
}

/** Whether nothing that may still come can be in the suggestion. */
export function isWhole(text: string, shape: Shape, around: Surroundings): boolean {
  if (shape === "line") return text.includes("\n");
  return blockEnd(text, around) < text.length;
}

/** The suggestion in a model's text; empty where there is none. */
export function suggestionIn(text: string, shape: Shape, around: Surroundings): string {
  const cut = shape === "line" ? (text.split("\n", 1)[0] ?? "") : text.slice(0, blockEnd(text, around));
  const fresh = shape === "line" ? withoutOverlap(cut, around.lineAfter) : withoutRepeatedLines(cut, around.after);
  return fresh.trimEnd();
}

/** Where the block ends: before the first whole line that is indented less than the line of the gap. */
function blockEnd(text: string, { lineBefore }: Surroundings): number {
  const least = indentation(lineBefore);
  for (let at = text.indexOf("\n"); at !== -1; ) {
    const next = text.indexOf("\n", at + 1);
    const line = text.slice(at + 1, next === -1 ? undefined : next);
    // Of a line that is not whole yet the indentation is known once it has a letter.
    if (line.trim() !== "" && indentation(line) < least) return at;
    at = next;
  }
  return text.length;
}

function indentation(line: string): number {
  let width = 0;
  for (const character of line) {
    if (character === " ") width += 1;
    else if (character === "\t") width += 4 - (width % 4);
    else break;
  }
  return width;
}

/** The text without an end that stands behind the gap already, unless a bracket of the text needs it. */
function withoutOverlap(text: string, lineAfter: string): string {
  const behind = lineAfter.trimEnd();
  for (let size = Math.min(text.length, behind.length); size > 0; size--) {
    const kept = text.slice(0, text.length - size);
    if (text.endsWith(behind.slice(0, size)) && isDouble(behind, size, kept)) return kept;
  }
  return text;
}

/** Whether `size` characters behind the gap, which the text ends with, are there twice: not so where they end a word or close a bracket. */
function isDouble(behind: string, size: number, kept: string): boolean {
  const isAll = size === behind.length && !/\w$/.test(kept);
  return (isAll || /^[\])}"'`;:,>]+$/.test(behind.slice(0, size))) && openBrackets(kept) === 0;
}

function openBrackets(text: string): number {
  let open = 0;
  for (const character of text) {
    if ("([{".includes(character)) open += 1;
    else if (")]}".includes(character)) open = Math.max(0, open - 1);
  }
  return open;
}

/** The text without last lines that are the next lines behind the gap. */
function withoutRepeatedLines(text: string, after: string): string {
  const following = lines(after).filter((line) => line.trim() !== "");
  const own = lines(text.trimEnd());
  for (let size = Math.min(own.length - 1, following.length); size > 0; size--) {
    const isRepeated = own.slice(-size).every((line, at) => line.trimEnd() === following[at]?.trimEnd());
    if (isRepeated) return own.slice(0, -size).join("\n");
  }
  return text;
}

function lines(text: string): string[] {
  return text.split("\n");
}
