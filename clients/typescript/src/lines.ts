const LINE_FEED = 0x0a;
const LIMIT_BYTES = 2 ** 28; // a text of 2^29 characters is more than V8 holds

/** Cuts bytes into lines. In UTF-8 a line feed is part of no other character, so a whole line is whole text. */
export class LineSplitter {
  readonly #limitBytes: number;
  #held: Buffer[] = [];
  #heldBytes = 0;

  constructor(limitBytes = LIMIT_BYTES) {
    this.#limitBytes = limitBytes;
  }

  /**
   * The lines that `chunk` completes, without line feeds and without empty ones.
   *
   * @throws RangeError A line is longer than the limit.
   */
  feed(chunk: Buffer): string[] {
    const end = chunk.lastIndexOf(LINE_FEED);
    if (end < 0) {
      this.#hold(chunk);
      return [];
    }
    const text = this.#take(chunk.subarray(0, end));
    if (end + 1 < chunk.length) this.#hold(chunk.subarray(end + 1));
    return text.split("\n").filter((line) => line !== "");
  }

  /** The bytes after the last line feed. */
  rest(): string {
    return this.#take(Buffer.alloc(0));
  }

  #hold(part: Buffer): void {
    this.#heldBytes += part.length;
    if (this.#heldBytes > this.#limitBytes) throw new RangeError(`a line of more than ${this.#limitBytes} bytes`);
    this.#held.push(part);
  }

  #take(last: Buffer): string {
    if (this.#held.length === 0) return last.toString();
    const text = Buffer.concat([...this.#held, last]).toString();
    this.#held = [];
    this.#heldBytes = 0;
    return text;
  }
}
