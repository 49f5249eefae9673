import assert from "node:assert/strict";
import { test } from "node:test";
import { surroundings } from "../src/core/surroundings.js";
import { sourceOf } from "./support.js";

const LINES = Array.from({ length: 400 }, (_, at) => `line ${at}: ${"x".repeat(at % 37)}`).join("\n");

function around(text: string, offset: number, prefixCharacters = 512, suffixCharacters = 256) {
  return surroundings(sourceOf(text), offset, { prefixCharacters, suffixCharacters });
}

test("before and after are the text around the gap, within the limits, at every offset", () => {
  for (let offset = 0; offset <= LINES.length; offset += 7) {
    const { before, after } = around(LINES, offset);
    assert.ok(LINES.slice(0, offset).endsWith(before) && before.length <= 512);
    assert.ok(LINES.slice(offset).startsWith(after) && after.length <= 256);
    assert.equal(offset === before.length || LINES[offset - before.length - 1] === "\n", true);
  }
});

test("the text before keeps its beginning while half of the limit is typed", () => {
  const starts = new Set<number>();
  for (let offset = 5000; offset < 5256; offset++) starts.add(offset - around(LINES, offset).before.length);
  assert.ok(starts.size <= 2, `${starts.size} beginnings`);
});

test("a text that goes on behind the limit ends with a whole line", () => {
  assert.ok(around(LINES, 1000).after.endsWith("\n"));
  assert.equal(around("ab\ncd", 1).after, "b\ncd");
});

test("a line longer than the limit is cut inside", () => {
  const { before, lineBefore } = around("y".repeat(3000), 2900);
  assert.equal(before, lineBefore);
  assert.ok(before.length > 0 && before.length <= 512);
});

test("line ends of Windows are those of Unix, and halves of characters are replaced", () => {
  const { before, after } = around("a\r\nb\r\nc", 3);
  assert.deepEqual([before, after], ["a\n", "b\nc"]);
  assert.equal(around("😀", 1).before, "\uFFFD");
});

test("the line of the gap is known even where nothing behind it may be sent", () => {
  const { after, lineBefore, lineAfter } = around("one\n  two(three)\nfour", 10, 512, 0);
  assert.deepEqual([after, lineBefore, lineAfter], ["", "  two(", "three)"]);
});
