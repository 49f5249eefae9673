import "./disposal.js";
import { Connection } from "./connection.js";
import { SidecarLost } from "./errors.js";
import { findCommand } from "./executable.js";
import type { Form } from "./forms.js";
import type * as protocol from "./generated.js";
import { errorFrom } from "./kinds.js";
import { Notices } from "./notices.js";
import { refuseOptions, type CallOptions, type LoadOptions, type SpawnOptions } from "./options.js";
import { orAborted } from "./or-aborted.js";
import { type Answer, Stream } from "./stream.js";
import { Supervisor } from "./supervisor.js";
import { type AnyTool, plain } from "./tools.js";
import { type EmbedAllParams, embeddedAll } from "./vectors.js";

const WINDOW = 64; // deltas; bench/deltas.mjs sees no gain beyond it

// Asking them twice is as good as asking once. A stream decides for itself.
const IDEMPOTENT = new Set<string>([
  "ping", "models", "load", "generate", "tokenize", "detokenize", "render", "stats", "cache/stats", "local/list",
  "check_draft", "adapters", "embed", "rerank", "rpc.discover",
]);

type Requests = protocol.Requests;
type Params<Method extends keyof Requests> = Requests[Method]["params"];

/** The prompt of a generation: exactly one of the three. */
export type Prompt = One<"prompt"> | One<"messages"> | One<"tokens">;

type Sources = Required<Pick<protocol.GenerateParams, "prompt" | "messages" | "tokens">>;
type One<Name extends keyof Sources> = { [Each in Name]: NonNullable<Sources[Each]> } & {
  [Each in Exclude<keyof Sources, Name>]?: null | undefined;
};

/** Parameters of a generation. Streams get their names from this client. */
export type GenerateOptions<F extends Asked = Asked, T extends Tools = Tools> = AnswerOptions<F, T> & Prompt;

/** The same without its prompt. */
export type AnswerOptions<F extends Asked = Asked, T extends Tools = Tools> = Omit<
  protocol.GenerateParams,
  "stream" | "response_format" | "tools" | keyof Sources
> & {
  /** The form that the answer must have. A schema that is written in place gives `parsed` its type. */
  response_format?: F;
  /** Made by `tool`, or as the protocol has them. Schemas that are written in place give `calls` their types. */
  tools?: T;
};

type Asked = Form | null | undefined;
type Tools = readonly AnyTool[] | null | undefined;

/**
 * A running sidecar, and another one should it die.
 *
 * Every method fails with the `RpcError` of its kind for an error that the sidecar answers, with `SidecarLost` if the
 * process ends before the answer and the request cannot be sent again, with `SidecarClosed` after `close`, and with the
 * reason of the signal if that was aborted.
 */
export class Sidecar implements AsyncDisposable {
  readonly cache = new Cache(this);
  readonly #supervisor: Supervisor;
  readonly #notices: Notices;
  readonly #window: number | null;

  private constructor(supervisor: Supervisor, notices: Notices, window: number | null) {
    this.#supervisor = supervisor;
    this.#notices = notices;
    this.#window = window;
  }

  /**
   * Starts one, and settles when it has answered.
   *
   * @param options The executable, its options and environment, callbacks for what it tells.
   * @throws ExecutableNotFound There is none to run.
   * @throws SidecarLost It did not come up.
   */
  static async spawn(options: SpawnOptions = {}): Promise<Sidecar> {
    const { command, args = [], cwd, env = process.env, window = WINDOW, respawn = true, signal, ...others } = options;
    const { onLog, onEngineState, onNotification, ...unknown } = others;
    refuseOptions(unknown, "spawn");
    signal?.throwIfAborted();
    const words = [...findCommand(command, env), "serve", "--framing", "lines", ...args];
    const notices = new Notices({ onLog, onEngineState, onNotification });
    const launch = {
      words,
      cwd,
      env,
      onNotification: (method: string, params: unknown) => notices.take(method, params),
      onStderr: (message: string) => notices.log({ level: "warning", logger: "stderr", message }),
    };
    const warn = (message: string) => notices.log({ level: "warning", logger: "client", message });
    const supervisor = new Supervisor(launch, respawn, warn);
    supervisor.enter();
    try {
      await orAborted(supervisor.connection(), signal);
    } catch (error) {
      await supervisor.close();
      throw error;
    } finally {
      supervisor.leave();
    }
    return new Sidecar(supervisor, notices, window);
  }

  /** Of the process there is now; undefined while there is none. */
  get pid(): number | undefined {
    return this.#supervisor.pid;
  }

  /** Version, capabilities and limits, as the process there is has said them. */
  get server(): protocol.InitializeResult {
    return this.#supervisor.initialized!;
  }

  /** The last that was heard of the engine process. */
  get engine(): protocol.EngineStateParams | undefined {
    return this.#notices.engine;
  }

  /**
   * Continues a prompt, a chat or tokens. It begins at once; see {@link Stream}.
   *
   * @param params `model`, one of `prompt`, `messages` and `tokens`, and what else `generate` of the protocol takes.
   * @param options `signal` cancels it.
   */
  generate<const F extends Asked = undefined, const T extends Tools = undefined>(
    params: GenerateOptions<F, T>,
    { signal, ...unknown }: CallOptions = {},
  ): Stream<F, T> {
    refuseOptions(unknown, "generate");
    if ("stream" in params) throw new TypeError("stream: the client gives streams their names");
    const windowed = { window: this.#window, ...params, ...plain(params) } as protocol.GenerateParams;
    return new Stream<F, T>(this.#supervisor, windowed, params.tools as T, signal);
  }

  /**
   * The same in one piece, without deltas.
   *
   * @param params As of `generate`.
   * @param options `signal` cancels the request.
   */
  async complete(params: GenerateOptions, options?: CallOptions): Promise<Answer> {
    const asked = { ...params, ...plain(params) } as protocol.GenerateParams;
    const result = await this.request("generate", asked, options);
    if (result.finish_reason !== "error") return result as Answer;
    const error = errorFrom(result.error ?? { code: 0, message: "the generation broke off" });
    error.result = result;
    throw error;
  }

  /**
   * Makes a model resident. A process that takes the place of this one loads it again.
   *
   * @param params `model`; `path`, `revision`, `pin`, `ttl_s`, `dtype`.
   * @param options `onProgress` hears how far it is. `signal` cancels the request.
   */
  async load(params: Params<"load">, { signal, onProgress, ...unknown }: LoadOptions = {}): Promise<protocol.LoadResult> {
    refuseOptions(unknown, "load");
    if (onProgress === undefined) return this.request("load", params, { signal });
    const [progress, end] = this.#notices.expect(onProgress);
    try {
      return await this.request("load", { ...params, progress }, { signal });
    } finally {
      end();
    }
  }

  /**
   * Drops a model; with `force` its running streams end as `error`.
   *
   * @param params `model`; `force` ends its streams.
   * @param options `signal` cancels the request.
   */
  unload(params: Params<"unload">, options?: CallOptions): Promise<protocol.UnloadResult> {
    return this.request("unload", params, options);
  }

  /**
   * Lets requests to a model name an adapter. A process that takes the place of this one loads it again.
   *
   * @param params `model`, the `adapter`'s name, and the `path` of its folder.
   * @param options `signal` cancels the request.
   */
  loadAdapter(params: Params<"adapter/load">, options?: CallOptions): Promise<protocol.AdapterLoadResult> {
    return this.request("adapter/load", params, options);
  }

  /**
   * Takes no new request with an adapter, and settles when the last one has ended.
   *
   * @param params `model` and `adapter`.
   * @param options `signal` cancels the request.
   */
  unloadAdapter(params: Params<"adapter/unload">, options?: CallOptions): Promise<protocol.AdapterUnloadResult> {
    return this.request("adapter/unload", params, options);
  }

  /**
   * The adapters of one model, or of all.
   *
   * @param params `model`, or nothing for all.
   * @param options `signal` cancels the request.
   */
  async adapters(params: Params<"adapters"> = {}, options?: CallOptions): Promise<protocol.AdapterCard[]> {
    return (await this.request("adapters", params, options)).adapters;
  }

  /**
   * The models that are resident or on their way.
   *
   * @param options `signal` cancels the request.
   */
  async models(options?: CallOptions): Promise<protocol.ModelCard[]> {
    return (await this.request("models", {}, options)).models;
  }

  /**
   * The models on this machine, loaded or not.
   *
   * @param params `model` for one of them; `folders` to look in besides.
   * @param options `signal` cancels the request.
   */
  async localModels(params: Params<"local/list"> = {}, options?: CallOptions): Promise<protocol.LocalModel[]> {
    return (await this.request("local/list", params, options)).models;
  }

  /**
   * Deletes a model of the hub's cache or of mlx-sidecar's own folder.
   *
   * @param params `model`.
   * @param options `signal` cancels the request.
   */
  deleteLocal(params: Params<"local/delete">, options?: CallOptions): Promise<protocol.LocalDeleteResult> {
    return this.request("local/delete", params, options);
  }

  /**
   * Whether `draft` has the vocabulary of `model`, so that it can make proposals for it.
   *
   * @param params `model` and `draft`.
   * @param options `signal` cancels the request.
   */
  checkDraft(params: Params<"check_draft">, options?: CallOptions): Promise<protocol.CheckDraftResult> {
    return this.request("check_draft", params, options);
  }

  /**
   * Text to token ids.
   *
   * @param params `model` and `text`; `add_special`, `pieces`, `escape_special`.
   * @param options `signal` cancels the request.
   */
  tokenize(params: Params<"tokenize">, options?: CallOptions): Promise<protocol.TokenizeResult> {
    return this.request("tokenize", params, options);
  }

  /**
   * Token ids to text.
   *
   * @param params `model` and `tokens`.
   * @param options `signal` cancels the request.
   */
  async detokenize(params: Params<"detokenize">, options?: CallOptions): Promise<string> {
    return (await this.request("detokenize", params, options)).text;
  }

  /**
   * A chat under the model's template, as text and tokens.
   *
   * @param params `model` and `messages`; `tools`, `template_args`, `add_generation_prompt`.
   * @param options `signal` cancels the request.
   */
  render(params: Params<"render">, options?: CallOptions): Promise<protocol.RenderResult> {
    return this.request("render", params, options);
  }

  /**
   * A vector for each text, at most 2048, as lists of numbers or as base64.
   *
   * @param params `model` and `input`, the texts; `pooling`, `dimensions`, `normalize`, `truncate`, `instruction`, `prompt`, `encoding`.
   * @param options `signal` cancels the request.
   */
  embed(params: Params<"embed">, options?: CallOptions): Promise<protocol.EmbedResult> {
    return this.request("embed", params, options);
  }

  /**
   * A vector for each of any number of texts, in order; `batch` of them (256) make a request. The next request is on
   * its way while the sidecar works on one.
   *
   * @param params As of `embed`, and `batch`.
   * @param options `signal` cancels all requests.
   */
  embedAll(params: EmbedAllParams, options?: CallOptions): Promise<Float32Array[]> {
    return embeddedAll((part) => this.embed(part, options), params);
  }

  /**
   * The documents by how well they answer the query, best first.
   *
   * @param params `model`, `query` and `documents`; `top_n`, `instruction`, `truncate`.
   * @param options `signal` cancels the request.
   */
  rerank(params: Params<"rerank">, options?: CallOptions): Promise<protocol.RerankResult> {
    return this.request("rerank", params, options);
  }

  /**
   * Counters, latencies, health, memory.
   *
   * @param options `signal` cancels the request.
   */
  stats(options?: CallOptions): Promise<protocol.StatsResult> {
    return this.request("stats", {}, options);
  }

  /**
   * Settles when it has answered.
   *
   * @param options `signal` cancels the request.
   */
  async ping(options?: CallOptions): Promise<void> {
    await this.request("ping", {}, options);
  }

  /**
   * Any request of the protocol. Deltas of a stream that it begins go to `onNotification`.
   *
   * @param method Its name.
   * @param params As the protocol has them.
   * @param options `signal` cancels the request.
   */
  async request<Method extends keyof Requests>(
    method: Method,
    params: Params<Method>,
    { signal, ...unknown }: CallOptions = {},
  ): Promise<Requests[Method]["result"]> {
    refuseOptions(unknown, method);
    this.#supervisor.enter();
    try {
      const result = (await this.#send(method, params, signal)) as Requests[Method]["result"];
      this.#remember(method, params);
      return result;
    } finally {
      this.#supervisor.leave();
    }
  }

  /** Ends the process and its requests. Settles when it is gone; can be called again. */
  close(): Promise<void> {
    return this.#supervisor.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #send(method: string, params: object, signal: AbortSignal | undefined): Promise<unknown> {
    for (let again = IDEMPOTENT.has(method); ; again = false) {
      try {
        const found = this.#supervisor.connection();
        const connection = found instanceof Connection ? found : await orAborted(found, signal);
        return await connection.request(method, params, signal);
      } catch (error) {
        if (!again || !(error instanceof SidecarLost)) throw error;
      }
    }
  }

  #remember(method: string, params: object): void {
    const { loads, adapters } = this.#supervisor;
    if (method === "load") {
      const { progress: _, ...load } = params as protocol.LoadParams;
      loads.set(load.model, load);
    } else if (method === "unload") {
      const { model } = params as protocol.UnloadParams;
      loads.delete(model);
      for (const [key, load] of adapters) if (load.model === model) adapters.delete(key);
    } else if (method === "adapter/load") {
      const load = params as protocol.AdapterLoadParams;
      adapters.set(adapterKey(load), load);
    } else if (method === "adapter/unload") {
      adapters.delete(adapterKey(params as protocol.AdapterUnloadParams));
    }
  }
}

function adapterKey({ model, adapter }: { model: string; adapter: string }): string {
  return JSON.stringify([model, adapter]);
}

/** The operations of the prefix cache. */
export class Cache {
  readonly #sidecar: Pick<Sidecar, "request">;

  /** @internal */
  constructor(sidecar: Pick<Sidecar, "request">) {
    this.#sidecar = sidecar;
  }

  /**
   * Its contents and counters.
   *
   * @param options `signal` cancels the request.
   */
  stats(options?: CallOptions): Promise<protocol.CacheStatsResult> {
    return this.#sidecar.request("cache/stats", {}, options);
  }

  /**
   * Forgets the cache of a model or of all.
   *
   * @param params `model`, or nothing for all; `disk: false` keeps the files.
   * @param options `signal` cancels the request.
   */
  clear(params: Params<"cache/clear"> = {}, options?: CallOptions): Promise<protocol.CacheClearResult> {
    return this.#sidecar.request("cache/clear", params, options);
  }

  /**
   * Computes a prefix and keeps it.
   *
   * @param params `model` and the prompt; `priority`, `deadline_s`.
   * @param options `signal` cancels the request.
   */
  warm(params: Params<"cache/warm">, options?: CallOptions): Promise<protocol.CacheWarmResult> {
    return this.#sidecar.request("cache/warm", params, options);
  }

  /**
   * Writes the cache of a conversation to a file.
   *
   * @param params `model`, the prompt, and the absolute `path` of the file.
   * @param options `signal` cancels the request.
   */
  export(params: Params<"cache/export">, options?: CallOptions): Promise<protocol.CacheFileResult> {
    return this.#sidecar.request("cache/export", params, options);
  }

  /**
   * Reads a file of `export`.
   *
   * @param params `model` and the absolute `path` of the file.
   * @param options `signal` cancels the request.
   */
  import(params: Params<"cache/import">, options?: CallOptions): Promise<protocol.CacheFileResult> {
    return this.#sidecar.request("cache/import", params, options);
  }
}
