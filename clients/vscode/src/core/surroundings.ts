/** A document as a completion sees it: positions count UTF-16 code units. */
export interface Source {
  readonly length: number;
  /** The text from `start` up to `end`. */
  slice(start: number, end: number): string;
}

/** The text around a gap. Lines end in `\n`, and lone surrogates are U+FFFD, because JSON can carry nothing else. */
export interface Surroundings {
  readonly before: string;
  readonly after: string;
  /** The part of `before` in the line of the gap. */
  readonly lineBefore: string;
  /** The rest of the line of the gap, even where `after` may hold nothing. */
  readonly lineAfter: string;
}

export interface Limits {
  readonly prefixCharacters: number;
  readonly suffixCharacters: number;
}

const LINE_CHARACTERS = 1024; // of the rest of a line that are looked at

/**
 * The text around `offset`, within the limits.
 *
 * The text before begins at the start of a line, and that place moves only when the limit is exceeded, by half of it at
 * a time: the prefix cache knows a prompt from its beginning on, so the beginning stays the same while a person types.
 */
export function surroundings(source: Source, offset: number, { prefixCharacters, suffixCharacters }: Limits): Surroundings {
  const before = plain(source.slice(startOf(source, offset, prefixCharacters), offset));
  const whole = source.slice(offset, Math.min(source.length, offset + Math.max(suffixCharacters, LINE_CHARACTERS)));
  return {
    before,
    after: plain(cut(whole, suffixCharacters, offset + suffixCharacters >= source.length)),
    lineBefore: before.slice(before.lastIndexOf("\n") + 1),
    lineAfter: plain(whole).split("\n", 1)[0] ?? "",
  };
}

function startOf(source: Source, offset: number, limit: number): number {
  const step = Math.floor(limit / 2);
  const start = Math.max(0, Math.ceil((offset - limit) / step)) * step;
  if (start === 0) return 0;
  const lineEnd = source.slice(start - 1, offset).indexOf("\n");
  // Only a line that is longer than the limit is cut inside, and then in the same steps.
  return lineEnd === -1 ? start : start + lineEnd;
}

/** The text up to the limit; a text that goes on behind it ends with a whole line if there is one. */
function cut(text: string, limit: number, isAll: boolean): string {
  const within = text.slice(0, limit);
  const lineEnd = within.lastIndexOf("\n");
  return isAll || lineEnd === -1 ? within : within.slice(0, lineEnd + 1);
}

function plain(text: string): string {
  return text.replace(/\r\n?/g, "\n").toWellFormed();
}
