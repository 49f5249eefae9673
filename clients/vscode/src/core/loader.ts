import { type CallOptions, type LoadResult, ModelNotFound, type ProgressParams, type Sidecar } from "mlx-sidecar";
import { Memo } from "./memo.js";

export interface LoaderListeners {
  /** How far a load is; undefined when it has ended. */
  onLoading(model: string, progress: ProgressParams | undefined): void;
}

/** Loads models, and tells how far it is. */
export class Loader {
  readonly #listeners: LoaderListeners;
  readonly #ready = new Memo<Sidecar, void>();

  constructor(listeners: LoaderListeners) {
    this.#listeners = listeners;
  }

  /**
   * Settles when a model that is on this machine is loaded. It downloads nothing: another model is left to the request
   * that needs it, which says that it is not there.
   */
  ready(sidecar: Sidecar, model: string): Promise<void> {
    return this.#ready.get(sidecar, model, async () => {
      if (await isLocal(sidecar, model)) await this.load(sidecar, model);
    });
  }

  /** Loads a model, and downloads it if it is not on this machine. */
  async load(sidecar: Sidecar, model: string, onProgress?: (progress: ProgressParams) => void, options: CallOptions = {}): Promise<LoadResult> {
    const tell = (progress: ProgressParams) => {
      this.#listeners.onLoading(model, progress);
      onProgress?.(progress);
    };
    try {
      return await sidecar.load({ model }, { ...options, onProgress: tell });
    } finally {
      this.#listeners.onLoading(model, undefined);
    }
  }

  /** Drops a model; with `force` its running answers end. */
  async unload(sidecar: Sidecar, model: string, force = false): Promise<number> {
    const { freed_bytes } = await sidecar.unload({ model, force });
    this.#ready.forget(sidecar, model);
    return freed_bytes;
  }
}

async function isLocal(sidecar: Sidecar, model: string): Promise<boolean> {
  try {
    return (await sidecar.localModels({ model })).length > 0;
  } catch (error) {
    if (error instanceof ModelNotFound) return false;
    throw error;
  }
}
