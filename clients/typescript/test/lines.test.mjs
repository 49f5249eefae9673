import assert from "node:assert/strict";
import { test } from "node:test";
import { LineSplitter } from "../dist/lines.js";

/** Numbers from 0 to 1, the same for the same seed. */
function random(seed) {
  return () => {
    seed = (seed * 1664525 + 1013904223) % 2 ** 32;
    return seed / 2 ** 32;
  };
}

const CHARACTERS = ["a", "\"", "\\n", "\r", "é", "€", "𝄞", "\u2028", "\ufeff", "\0"];

function line(next) {
  return Array.from({ length: 1 + Math.floor(next() * 30) }, () => CHARACTERS[Math.floor(next() * CHARACTERS.length)]).join("");
}

function cut(bytes, next, most) {
  const chunks = [];
  for (let start = 0; start < bytes.length; ) {
    const end = start + 1 + Math.floor(next() * most);
    chunks.push(bytes.subarray(start, end));
    start = end;
  }
  return chunks;
}

test("lines come out whole however their bytes are cut", () => {
  for (let seed = 0; seed < 300; seed++) {
    const next = random(seed);
    const lines = Array.from({ length: Math.floor(next() * 20) }, () => line(next));
    const splitter = new LineSplitter();
    const bytes = Buffer.from(lines.map((text) => `${text}\n`).join(""));
    const got = cut(bytes, next, 1 + Math.floor(next() * 40)).flatMap((chunk) => splitter.feed(chunk));
    assert.deepEqual(got, lines, `seed ${seed}`);
  }
});

test("what has no line feed yet is no line, and empty lines are none", () => {
  const splitter = new LineSplitter();
  assert.deepEqual(splitter.feed(Buffer.from("\n\na\n\nb")), ["a"]);
  assert.deepEqual(splitter.feed(Buffer.from("c")), []);
  assert.deepEqual(splitter.feed(Buffer.from("\n")), ["bc"]);
});

test("a line beyond the limit is refused before it fills the memory", () => {
  const splitter = new LineSplitter(10);
  splitter.feed(Buffer.from("123456"));
  assert.throws(() => splitter.feed(Buffer.from("789012")), RangeError);
});
