import {
  type EmbeddingModelV3, type LanguageModelV3, NoSuchModelError, type ProviderV3, type RerankingModelV3,
} from "@ai-sdk/provider";
import { Sidecar, type SpawnOptions } from "mlx-sidecar";
import { SidecarEmbeddingModel } from "./embedding-model.js";
import { SidecarLanguageModel } from "./language-model.js";
import { SidecarRerankingModel } from "./reranking-model.js";

/** A sidecar that runs already, which stays its owner's to close; or how to start one. */
export type MlxSidecarOptions = { sidecar: Sidecar } | SpawnOptions;

/** Models of one sidecar, by their names: `pocket`, a directory or a hub id. */
export interface MlxSidecarProvider extends ProviderV3 {
  (modelId: string): LanguageModelV3;
  rerankingModel(modelId: string): RerankingModelV3;
  /** Ends the sidecar, if this provider has started one. The next call starts another. */
  close(): Promise<void>;
}

/**
 * A provider for the AI SDK. The first call starts the sidecar, which keeps Node from ending only while it works.
 *
 * @param options A sidecar of yours, or options of `Sidecar.spawn`.
 */
export function createMlxSidecar(options: MlxSidecarOptions = {}): MlxSidecarProvider {
  let started: Promise<Sidecar> | undefined;
  const sidecar = (): Promise<Sidecar> => {
    if ("sidecar" in options) return Promise.resolve(options.sidecar);
    if (started === undefined) {
      const starting = Sidecar.spawn(options);
      started = starting;
      starting.catch(() => {
        if (started === starting) started = undefined; // the next call tries again
      });
    }
    return started;
  };
  const languageModel = (modelId: string): LanguageModelV3 => new SidecarLanguageModel(modelId, sidecar);
  const embeddingModel = (modelId: string): EmbeddingModelV3 => new SidecarEmbeddingModel(modelId, sidecar);
  const rerankingModel = (modelId: string): RerankingModelV3 => new SidecarRerankingModel(modelId, sidecar);
  const imageModel = (modelId: string): never => {
    throw new NoSuchModelError({ modelId, modelType: "imageModel" });
  };
  const close = async (): Promise<void> => {
    const ending = started;
    started = undefined;
    await (await ending)?.close();
  };
  return Object.assign((modelId: string) => languageModel(modelId), {
    specificationVersion: "v3" as const,
    languageModel,
    embeddingModel,
    rerankingModel,
    imageModel,
    close,
  });
}

/** The provider with the sidecar that `MLX_SIDECAR` names, or that is on the search path. */
export const mlxSidecar: MlxSidecarProvider = createMlxSidecar();
