/** A text as a fenced block of Markdown; the fence is longer than any in the text. */
export function fenced(text: string, language: string): string {
  const longest = Math.max(2, ...[...text.matchAll(/^\s*(`{3,})/gm)].map(([, ticks]) => ticks?.length ?? 0));
  const fence = "`".repeat(longest + 1);
  return `${fence}${language}\n${text.replace(/\r\n?/g, "\n").replace(/\n$/, "")}\n${fence}`;
}

/** The question about code that a person has selected. */
export function explanation(code: string, language: string, place: string): string {
  return `Explain this code of ${place}:\n\n${fenced(code, language)}`;
}
