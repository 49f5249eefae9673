import assert from "node:assert/strict";
import { test } from "node:test";
import { isWhole, shapeAt, suggestionIn } from "../src/core/shape.js";
import { surroundings } from "../src/core/surroundings.js";
import { placeIn } from "./support.js";

function at(marked: string) {
  const { source, offset } = placeIn(marked);
  return surroundings(source, offset, { prefixCharacters: 4096, suffixCharacters: 1024 });
}

/** What is suggested at a place for the text of a model. */
function suggested(marked: string, text: string, multiline = true): string {
  return suggestionIn(text, shapeAt(at(marked), multiline), at(marked));
}

test("at the end of a line a block is suggested, within a line the rest of it", () => {
  assert.equal(suggested("def f():|\n", "\n    return 1\n"), "\n    return 1");
  assert.equal(suggested("print(|, 2)\n", "1\nprint(3"), "1");
  assert.equal(suggested("def f():|\n", " return 1\nf()", false), " return 1");
});

test("a block ends before a line that is indented less than the line of the gap", () => {
  assert.equal(suggested("class A:\n    def f(self):|", "\n        return 1\n\nprint(A())"), "\n        return 1");
  assert.equal(suggested("\tif (x) {|", "\n\t\ty();\n\t}\n}\n"), "\n\t\ty();\n\t}");
});

test("a text is whole as soon as nothing that comes can be suggested", () => {
  const block = at("    a = 1|\n");
  assert.deepEqual(
    ["\n    b", "\n    b\n", "\n    b\n  ", "\n    b\nc"].map((text) => isWhole(text, "block", block)),
    [false, false, false, true],
  );
  assert.deepEqual(["b", "b\n"].map((text) => isWhole(text, "line", block)), [false, true]);
});

test("what comes behind a whole text changes nothing, and a suggestion is the beginning of the text", () => {
  const pieces = ["\n", "    ", "  ", "a", "b()", ")", "}", "\t", "\n\n"];
  let state = 7;
  const draw = (count: number) => (state = (state * 48271) % 2147483647) % count; // the same texts in each run
  for (let round = 0; round < 3000; round++) {
    const text = Array.from({ length: 1 + draw(14) }, () => pieces[draw(pieces.length)]).join("");
    const around = at(["    x|\n}\n", "f(|)\n", "  |b()\n", "|"][draw(4)] ?? "");
    const shape = shapeAt(around, draw(2) === 0);
    const suggestion = suggestionIn(text, shape, around);
    assert.ok(text.startsWith(suggestion), JSON.stringify(text));
    for (let size = 0; size < text.length; size++) {
      if (!isWhole(text.slice(0, size), shape, around)) continue;
      assert.equal(suggestionIn(text.slice(0, size), shape, around), suggestion, JSON.stringify(text));
    }
  }
});

test("what stands behind the gap already is not suggested again", () => {
  assert.equal(suggested('print("|")', 'hello")'), "hello");
  assert.equal(suggested("f(|)", "x)"), "x");
  assert.equal(suggested("total = |;", "a + b;"), "a + b");
});

test("a bracket that the suggestion needs, and the end of a word, stay", () => {
  assert.equal(suggested("f(|)", "g(x)"), "g(x)");
  assert.equal(suggested("f(|)", "g(x))"), "g(x)");
  assert.equal(suggested("a = |x", "max"), "max");
});

test("lines that follow already are not suggested again", () => {
  assert.equal(suggested("def f():|\n    return 1\n", "\n    x = 2\n    return 1"), "\n    x = 2");
  assert.equal(suggested("{|\n}\n", "\n  a: 1\n}"), "\n  a: 1");
});

test("a text of spaces is no suggestion", () => {
  assert.equal(suggested("a|", "  \n \n"), "");
});
