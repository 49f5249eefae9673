import type {
  LanguageModelV3, LanguageModelV3CallOptions, LanguageModelV3GenerateResult, LanguageModelV3StreamPart,
  LanguageModelV3StreamResult, SharedV3Warning,
} from "@ai-sdk/provider";
import type { Sidecar, Stream, StreamEvent } from "mlx-sidecar";
import { callError } from "./errors.js";
import { NAME, parametersOf } from "./parameters.js";
import { contentOf, finishReasonOf, metadataOf, usageOf } from "./results.js";
import { StreamParts } from "./stream-parts.js";

/** A model that answers chats. */
export class SidecarLanguageModel implements LanguageModelV3 {
  readonly specificationVersion = "v3";
  readonly provider = NAME;
  readonly supportedUrls = {};
  readonly modelId: string;
  readonly #sidecar: () => Promise<Sidecar>;

  constructor(modelId: string, sidecar: () => Promise<Sidecar>) {
    this.modelId = modelId;
    this.#sidecar = sidecar;
  }

  async doGenerate(options: LanguageModelV3CallOptions): Promise<LanguageModelV3GenerateResult> {
    const { params, warnings } = parametersOf(this.modelId, options);
    const sidecar = await this.#sidecar();
    try {
      const answer = await sidecar.complete(params, { signal: options.abortSignal });
      return {
        content: contentOf(answer),
        finishReason: finishReasonOf(answer),
        usage: usageOf(answer),
        providerMetadata: metadataOf(answer),
        request: { body: params },
        response: { modelId: this.modelId, timestamp: new Date() },
        warnings,
      };
    } catch (error) {
      throw callError(error, "generate", params);
    }
  }

  async doStream(options: LanguageModelV3CallOptions): Promise<LanguageModelV3StreamResult> {
    const { params, warnings } = parametersOf(this.modelId, options);
    const sidecar = await this.#sidecar();
    const stream = sidecar.generate({ ...params, echo_text: false }, { signal: options.abortSignal });
    const failed = (error: unknown) => callError(error, "generate", params);
    const events = stream.events();
    try {
      // A refusal is this call's, which the AI SDK may repeat, and no part of a stream.
      const first = await events.next();
      const parts = this.#parts(stream, events, first, warnings, options, failed);
      return { stream: readable(parts, () => stream.cancel()), request: { body: params } };
    } catch (error) {
      throw failed(error);
    }
  }

  async *#parts(
    stream: Stream,
    events: AsyncGenerator<StreamEvent, undefined>,
    first: IteratorResult<StreamEvent, undefined>,
    warnings: SharedV3Warning[],
    { includeRawChunks = false, abortSignal }: LanguageModelV3CallOptions,
    failed: (error: unknown) => unknown,
  ): AsyncGenerator<LanguageModelV3StreamPart> {
    yield { type: "stream-start", warnings };
    yield { type: "response-metadata", modelId: this.modelId, timestamp: new Date() };
    const parts = new StreamParts();
    try {
      for (let next = first; !next.done; next = await events.next()) {
        if (includeRawChunks) yield { type: "raw", rawValue: next.value };
        yield* parts.of(next.value);
      }
      yield* parts.last(await stream.result);
    } catch (error) {
      abortSignal?.throwIfAborted();
      yield { type: "error", error: failed(error) };
      const partial = await stream.partial;
      if (partial !== undefined) yield* parts.last({ ...partial, tool_calls: [] }); // broken off: its calls are not run
    }
  }
}

/** A stream that takes a part when it is read, so that a slow reader slows the engine down. */
function readable(
  parts: AsyncGenerator<LanguageModelV3StreamPart>,
  cancel: () => void,
): ReadableStream<LanguageModelV3StreamPart> {
  return new ReadableStream(
    {
      async pull(controller) {
        try {
          const { done, value } = await parts.next();
          if (done) controller.close();
          else controller.enqueue(value);
        } catch (error) {
          controller.error(error);
        }
      },
      cancel,
    },
    { highWaterMark: 0 },
  );
}
