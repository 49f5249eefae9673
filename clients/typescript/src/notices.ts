import type { EngineStateParams, LogParams, ProgressParams } from "./generated.js";
import type { SpawnOptions } from "./options.js";

type Listeners = Pick<SpawnOptions, "onLog" | "onEngineState" | "onNotification">;

/** Hands the sidecar's notifications, except deltas, to their listeners. */
export class Notices {
  /** The last that was heard of the engine process. */
  engine: EngineStateParams | undefined;
  readonly #listeners: Listeners;
  readonly #progress = new Map<number, (progress: ProgressParams) => void>();
  #lastToken = 0;

  constructor(listeners: Listeners) {
    this.#listeners = listeners;
  }

  /** One notification, of this version or of a newer one. */
  take(method: string, params: unknown): void {
    if (method === "log") this.log(params as LogParams);
    else if (method === "engine/state") this.#learn(params as EngineStateParams);
    else if (method === "progress") this.#report(params as ProgressParams);
    else tell(this.#listeners.onNotification, method, params);
  }

  log(entry: LogParams): void {
    const { onLog } = this.#listeners;
    if (onLog !== undefined) tell(onLog, entry);
    else if (["warning", "error"].includes(entry.level)) process.stderr.write(`mlx-sidecar: ${entry.message}\n`);
  }

  /** A token for `load` under which `onProgress` is called, and a function that ends that. */
  expect(onProgress: (progress: ProgressParams) => void): [token: number, end: () => void] {
    const token = ++this.#lastToken;
    this.#progress.set(token, onProgress);
    return [token, () => this.#progress.delete(token)];
  }

  #learn(state: EngineStateParams): void {
    this.engine = state;
    tell(this.#listeners.onEngineState, state);
  }

  #report(progress: ProgressParams): void {
    const listener = this.#progress.get(progress.token as number);
    if (listener !== undefined) tell(listener, progress);
    else tell(this.#listeners.onNotification, "progress", progress);
  }
}

/** Throws a listener's exception again where nothing else runs, so that other listeners get their messages. */
function tell<Args extends unknown[]>(listener: ((...args: Args) => void) | undefined, ...args: Args): void {
  try {
    listener?.(...args);
  } catch (error) {
    process.nextTick(() => {
      throw error;
    });
  }
}
