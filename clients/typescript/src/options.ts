import type { EngineStateParams, LogParams, ProgressParams } from "./generated.js";

/** How to start a sidecar, and callbacks for its messages. Callbacks must not block; their exceptions are uncaught. */
export interface SpawnOptions {
  /** The executable, or the words in front of `serve`. By default those of `MLX_SIDECAR`, else `mlx-sidecar` in PATH. */
  command?: string | readonly string[] | undefined;
  /** Options of `serve`, e.g. `["--cache-dir"]`. */
  args?: readonly string[] | undefined;
  /** Its working directory; by default ours. */
  cwd?: string | undefined;
  /** Its whole environment; by default ours. */
  env?: Readonly<Record<string, string | undefined>> | undefined;
  /** Deltas that a stream may be ahead of its reader before the engine pauses it; null: no bound. */
  window?: number | null | undefined;
  /** Whether another process is started when it dies: at most 5 within a minute. */
  respawn?: boolean | undefined;
  /** Gives up starting, and ends the process. */
  signal?: AbortSignal | undefined;
  /** Its log, and ours. Without it warnings and errors go to standard error. */
  onLog?: ((entry: LogParams) => void) | undefined;
  /** The engine process has changed its state. */
  onEngineState?: ((state: EngineStateParams) => void) | undefined;
  /** Every other notification: of streams that `request` began, `stream/interrupted`, and newer ones than this client. */
  onNotification?: ((method: string, params: unknown) => void) | undefined;
}

/** Throws for the first of the options that are left when all that are known were taken. */
export function refuseOptions(unknown: object, of: string): void {
  const [name] = Object.keys(unknown);
  if (name !== undefined) throw new TypeError(`${of} has no option ${JSON.stringify(name)}`);
}

export interface CallOptions {
  /** Aborting cancels the request, and the call fails with its reason. */
  signal?: AbortSignal | undefined;
}

export interface LoadOptions extends CallOptions {
  /** How far it is. */
  onProgress?: ((progress: ProgressParams) => void) | undefined;
}
