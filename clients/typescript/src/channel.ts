interface Waiter<T> {
  resolve(result: IteratorResult<T, undefined>): void;
  reject(error: unknown): void;
}

/** The end of an iteration: an error, given once, then nothing. */
interface End {
  error?: { reason: unknown } | undefined;
}

const DONE = { done: true, value: undefined } as const;

/** Items from a producer to a consumer, in order. It has no bound: the two must agree on one. */
export class Channel<T> {
  // Two lists, one to push and one to take from, because taking from the front of a long list is slow.
  #incoming: T[] = [];
  #ready: T[] = [];
  #position = 0;
  #waiters: Waiter<T>[] = [];
  #end: End | undefined;
  #taken = 0;

  /** How many items have been handed out. */
  get taken(): number {
    return this.#taken;
  }

  /** Whether an item was handed out whose consumer has not asked for the next one. */
  get isWithReader(): boolean {
    return this.#taken > 0 && this.#waiters.length === 0;
  }

  push(item: T): void {
    const waiter = this.#waiters.shift();
    if (waiter === undefined) {
      this.#incoming.push(item);
      return;
    }
    this.#taken += 1;
    waiter.resolve({ done: false, value: item });
  }

  /** Ends it after the items that it holds. */
  finish(error?: End["error"]): void {
    this.#end ??= { error };
    const waiters = this.#waiters;
    this.#waiters = [];
    for (const { resolve, reject } of waiters) this.#over().then(resolve, reject);
  }

  /** Ends it now. */
  stop(error?: End["error"]): void {
    this.clear();
    this.#end = { error };
    this.finish();
  }

  /** Drops its items. */
  clear(): void {
    this.#incoming = [];
    this.#ready = [];
    this.#position = 0;
  }

  next(): Promise<IteratorResult<T, undefined>> {
    if (this.#position === this.#ready.length) {
      this.#ready = this.#incoming;
      this.#incoming = [];
      this.#position = 0;
    }
    if (this.#position < this.#ready.length) {
      this.#taken += 1;
      return Promise.resolve({ done: false, value: this.#ready[this.#position++] as T });
    }
    if (this.#end !== undefined) return this.#over();
    return new Promise((resolve, reject) => this.#waiters.push({ resolve, reject }));
  }

  #over(): Promise<IteratorResult<T, undefined>> {
    const error = this.#end?.error;
    this.#end = {};
    return error === undefined ? Promise.resolve(DONE) : Promise.reject(error.reason);
  }
}
