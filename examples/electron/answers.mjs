// The app without Electron: one sidecar that starts when it is first needed, and one answer at a time.
import { RpcError, Sidecar } from "mlx-sidecar";

/** Answers questions. A new one ends the answer before. */
export class Answers {
  #options;
  #sidecar;
  #running = new AbortController();

  /** `options` are those of `Sidecar.spawn`. */
  constructor(options) {
    this.#options = options;
  }

  /**
   * Calls `show` with each piece of the answer. Settles with `{ reason }`, a `finish_reason` or `stopped`, or with
   * `{ reason: "error", message }`, because Electron hands on plain objects and no classes of errors.
   */
  async ask(model, question, show) {
    this.stop();
    const { signal } = (this.#running = new AbortController());
    try {
      const sidecar = await this.#start();
      signal.throwIfAborted();
      const messages = [{ role: "user", content: question }];
      const stream = sidecar.generate({ model, messages, escape_special: true }, { signal });
      for await (const { text } of stream) show(text);
      return { reason: (await stream.result).finish_reason };
    } catch (error) {
      if (signal.aborted) return { reason: "stopped" };
      if (error instanceof RpcError) return { reason: "error", message: `${error.kind}: ${error.message}` };
      throw error;
    }
  }

  /** Ends the running answer at once. */
  stop() {
    this.#running.abort();
  }

  /** Ends the answer and the sidecar. */
  async close() {
    this.stop();
    const sidecar = await this.#sidecar?.catch(() => undefined);
    await sidecar?.close();
  }

  /** Starts the sidecar, again after a failure. */
  #start() {
    this.#sidecar ??= Sidecar.spawn(this.#options).catch((error) => {
      this.#sidecar = undefined;
      throw error;
    });
    return this.#sidecar;
  }
}
