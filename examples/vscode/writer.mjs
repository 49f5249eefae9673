// The extension without the editor: one sidecar that starts when it is first needed, and one answer at a time.
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
   * Calls `insert` with each piece of text, and awaits its result before the next one. Settles with the reason of the end:
   * a `finish_reason`, or `stopped`.
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

  /** Ends the running answer at once. */
  stop() {
    this.#running.abort();
  }

  async dispose() {
    this.stop();
    const sidecar = await this.#sidecar?.catch(() => undefined);
    await sidecar?.close();
  }

  /** Starts the sidecar, again after a failure, because the user may have installed it meanwhile. */
  #start() {
    this.#sidecar ??= Sidecar.spawn(this.#options).catch((error) => {
      this.#sidecar = undefined;
      throw error;
    });
    return this.#sidecar;
  }
}
