import { type EngineStateParams, type LogParams, Sidecar, SidecarClosed, type SpawnOptions } from "mlx-sidecar";

/**
 * `idle`: not needed yet, the next request starts it. `stopped`: by the user, only the user starts it again.
 * `recovering`: the process that computes was lost and another one is coming up; requests go on.
 */
export type EngineState = "idle" | "starting" | "ready" | "recovering" | "failed" | "stopped";

/** How to start the process: an empty executable is looked up in `MLX_SIDECAR` and the search path. */
export interface Launch {
  readonly executable: string | readonly string[];
  readonly args: readonly string[];
}

export interface EngineListeners {
  onState(state: EngineState, because?: string): void;
  onLog(entry: LogParams): void;
}

/** The one sidecar of a window: started when it is first needed, stopped and started again by the user, and ended with the window. */
export class Engine {
  readonly #listeners: EngineListeners;
  #launch: Launch;
  #running: { readonly sidecar: Promise<Sidecar>; readonly abort: AbortController } | undefined;
  #state: EngineState = "idle";
  #isClosed = false;

  constructor(launch: Launch, listeners: EngineListeners) {
    this.#launch = launch;
    this.#listeners = listeners;
  }

  get state(): EngineState {
    return this.#state;
  }

  /** Whether there is a process, or one that comes up. */
  get isRunning(): boolean {
    return this.#running !== undefined;
  }

  /**
   * The sidecar; starts it if there is none.
   *
   * @throws ExecutableNotFound There is none to run.
   * @throws SidecarLost It did not come up.
   * @throws SidecarClosed It was stopped meanwhile, or the window is closing.
   */
  async sidecar(): Promise<Sidecar> {
    if (this.#isClosed) throw new SidecarClosed();
    return (this.#running ?? this.#spawn()).sidecar;
  }

  /** Ends the process and all its requests. Settles when it is gone. */
  async stop(): Promise<void> {
    this.#become("stopped");
    await this.#end();
  }

  /** Another process in its place, started otherwise if `launch` says so. It is started at once if one was running. */
  async restart(launch: Launch = this.#launch): Promise<void> {
    this.#launch = launch;
    await this.#end();
    await this.sidecar();
  }

  /** Takes another way to start it for the next time; a process that runs is replaced. */
  async configure(launch: Launch): Promise<void> {
    this.#launch = launch;
    if (this.isRunning) await this.restart(launch);
    else if (this.#state === "failed") this.#become("idle");
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    await this.#end();
  }

  #spawn(): { readonly sidecar: Promise<Sidecar>; readonly abort: AbortController } {
    const abort = new AbortController();
    this.#become("starting");
    const running = { abort, sidecar: this.#start(abort) };
    running.sidecar.then(
      () => this.#is(abort) && this.#become("ready"),
      (error: unknown) => this.#failed(abort, error),
    );
    return (this.#running = running);
  }

  async #start(abort: AbortController): Promise<Sidecar> {
    const { executable, args } = this.#launch;
    const options: SpawnOptions = {
      command: executable.length === 0 ? undefined : executable,
      args,
      signal: abort.signal,
      onLog: (entry) => this.#listeners.onLog(entry),
      onEngineState: (state) => this.#is(abort) && this.#learn(state),
    };
    try {
      return await Sidecar.spawn(options);
    } catch (error) {
      throw abort.signal.aborted ? new SidecarClosed() : error;
    }
  }

  /** Whether the process that was started with this one is still the one in use. */
  #is(abort: AbortController): boolean {
    return this.#running?.abort === abort;
  }

  #failed(abort: AbortController, error: unknown): void {
    if (!this.#is(abort)) return;
    this.#running = undefined; // the next request tries again
    this.#become("failed", (error as Error).message);
  }

  #learn({ state, because }: EngineStateParams): void {
    if (state === "failed") this.#become("failed", because);
    else if (state === "lost") this.#become("recovering", because);
    else if (state === "ready") this.#become("ready");
  }

  async #end(): Promise<void> {
    const running = this.#running;
    if (running === undefined) return;
    this.#running = undefined;
    running.abort.abort();
    await running.sidecar.then(
      (sidecar) => sidecar.close(),
      () => {}, // it did not come up: whoever asked for it has been told
    );
  }

  #become(state: EngineState, because?: string): void {
    this.#state = state;
    this.#listeners.onState(state, because);
  }
}
