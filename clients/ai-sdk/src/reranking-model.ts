import type { RerankingModelV3, RerankingModelV3CallOptions } from "@ai-sdk/provider";
import type { protocol, Sidecar } from "mlx-sidecar";
import { callError } from "./errors.js";
import { NAME, ownOptions } from "./parameters.js";

/** A model that puts documents in order. A document that is an object is read as its JSON. */
export class SidecarRerankingModel implements RerankingModelV3 {
  readonly specificationVersion = "v3";
  readonly provider = NAME;
  readonly modelId: string;
  readonly #sidecar: () => Promise<Sidecar>;

  constructor(modelId: string, sidecar: () => Promise<Sidecar>) {
    this.modelId = modelId;
    this.#sidecar = sidecar;
  }

  async doRerank({ documents, query, topN, abortSignal, providerOptions }: RerankingModelV3CallOptions) {
    const own = ownOptions(providerOptions, ["model", "query", "documents", "top_n"]);
    const texts = documents.type === "text" ? documents.values : documents.values.map((each) => JSON.stringify(each));
    const top = topN === undefined ? {} : { top_n: topN };
    const params = { ...own, ...top, model: this.modelId, query, documents: texts } as protocol.RerankParams;
    const sidecar = await this.#sidecar();
    try {
      const { results } = await sidecar.rerank(params, { signal: abortSignal });
      return { ranking: results.map(({ index, relevance_score }) => ({ index, relevanceScore: relevance_score })) };
    } catch (error) {
      throw callError(error, "rerank", params);
    }
  }
}
