/** Remembers what was found for a key of an owner, and asks once where several want it. What failed is asked for again. */
export class Memo<Owner extends object, Value> {
  readonly #known = new WeakMap<Owner, Map<string, Promise<Value>>>();

  get(owner: Owner, key: string, find: () => Promise<Value>): Promise<Value> {
    const known = this.#known.get(owner) ?? new Map<string, Promise<Value>>();
    this.#known.set(owner, known);
    const found = known.get(key) ?? find();
    known.set(key, found);
    found.catch(() => known.get(key) === found && known.delete(key));
    return found;
  }

  forget(owner: Owner, key: string): void {
    this.#known.get(owner)?.delete(key);
  }
}

/** The same promise, but failing with the reason of the signal as soon as that is aborted. */
export function unlessAborted<Value>(promise: Promise<Value>, signal: AbortSignal): Promise<Value> {
  return new Promise((resolve, reject) => {
    const abort = () => reject(signal.reason as Error);
    if (signal.aborted) return abort();
    signal.addEventListener("abort", abort, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener("abort", abort));
  });
}
