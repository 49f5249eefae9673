// What the extension does, without the editor: one sidecar that starts when it is first needed, and one answer at a time.
import { Sidecar } from "mlx-sidecar";

const CONTEXT_CHARACTERS = 8000; // before the cursor; the prefix cache makes the same beginning cheap

/** Continues text. A new wish ends the one before: it is the cursor that counts. */
export class Writer {
  #options;
  #sidecar;
  #running = new AbortController();

  /** `options` are those of `Sidecar.spawn`. */
  constructor(options) {
    this.#options = options;
  }

  /**
   * Calls `insert` with each piece of text, and waits for what that returns before it takes the next one. Settles with why it
   * ended: a `finish_reason`, or `stopped`.
   */
  async continue({ before, model, maxTokens }, insert) {
    this.stop();
    const { signal } = (this.#running = new AbortController());
    try {
      const sidecar = await this.#start();
      signal.throwIfAborted();
      const params = { model, prompt: before.slice(-CONTEXT_CHARACTERS), max_tokens: maxTokens };
      const stream = sidecar.generate(params, { signal });
      for await (const { text } of stream) await insert(text);
      return (await stream.result).finish_reason;
    } catch (error) {
      if (signal.aborted && error === signal.reason) return "stopped";
      throw error;
    }
  }

  /** Ends what runs, at once. */
  stop() {
    this.#running.abort();
  }

  async dispose() {
    this.stop();
    const sidecar = await this.#sidecar?.catch(() => undefined);
    await sidecar?.close();
  }

  /** One that did not come up is tried again next time: the user may have installed it meanwhile. */
  #start() {
    this.#sidecar ??= Sidecar.spawn(this.#options).catch((error) => {
      this.#sidecar = undefined;
      throw error;
    });
    return this.#sidecar;
  }
}
