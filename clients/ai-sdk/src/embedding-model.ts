import type { EmbeddingModelV3, EmbeddingModelV3CallOptions, EmbeddingModelV3Result } from "@ai-sdk/provider";
import type { protocol, Sidecar } from "mlx-sidecar";
import { callError } from "./errors.js";
import { NAME, ownOptions } from "./parameters.js";

/** A model that makes vectors of texts. */
export class SidecarEmbeddingModel implements EmbeddingModelV3 {
  readonly specificationVersion = "v3";
  readonly provider = NAME;
  readonly maxEmbeddingsPerCall = 2048;
  readonly supportsParallelCalls = true;
  readonly modelId: string;
  readonly #sidecar: () => Promise<Sidecar>;

  constructor(modelId: string, sidecar: () => Promise<Sidecar>) {
    this.modelId = modelId;
    this.#sidecar = sidecar;
  }

  async doEmbed({ values, abortSignal, providerOptions }: EmbeddingModelV3CallOptions): Promise<EmbeddingModelV3Result> {
    const own = ownOptions(providerOptions, ["model", "input", "encoding"]);
    const params = { ...own, model: this.modelId, input: values } as protocol.EmbedParams;
    const sidecar = await this.#sidecar();
    try {
      const { embeddings, usage } = await sidecar.embed(params, { signal: abortSignal });
      return { embeddings: embeddings as number[][], usage: { tokens: usage.prompt_tokens }, warnings: [] };
    } catch (error) {
      throw callError(error, "embed", params);
    }
  }
}
