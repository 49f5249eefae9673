// Generated from schemas/ by scripts/generate.mjs (npm run types). Do not edit.

export const VERSION = "0.1.0";

export const PROTOCOL_VERSION = 1;

/** What a host can ask for: parameters and result of each method. */
export interface Requests {
  /** Agree on a version; optional, and then the first request and the only one of its kind. */
  "initialize": { params: InitializeParams; result: InitializeResult };
  /** Answer at once. */
  "ping": { params: NoParams; result: EmptyResult };
  /** Take no new work; answer when what runs has ended. */
  "shutdown": { params: ShutdownParams; result: EmptyResult };
  /** Make a model resident; a resident one just answers its card. */
  "load": { params: LoadParams; result: LoadResult };
  /** Drop a model and free its memory. */
  "unload": { params: UnloadParams; result: UnloadResult };
  /** The models that are resident or on their way. */
  "models": { params: NoParams; result: ModelsResult };
  /** Continue a prompt, a chat or tokens; streamed if the host names a stream. */
  "generate": { params: GenerateParams; result: GenerateResult };
  /** Text to token ids. */
  "tokenize": { params: TokenizeParams; result: TokenizeResult };
  /** Token ids to text. */
  "detokenize": { params: DetokenizeParams; result: DetokenizeResult };
  /** What a chat becomes under the model's template. */
  "render": { params: RenderParams; result: RenderResult };
  /** Cancel a stream; idempotent. */
  "stream/cancel": { params: StreamCancelParams; result: EmptyResult };
  /** One delta with all that was missed, then the live ones. */
  "stream/subscribe": { params: StreamSubscribeParams; result: StreamSubscribeResult };
  /** Say how far a stream with a window was read. */
  "stream/ack": { params: StreamAckParams; result: EmptyResult };
  /** What the prefix cache holds, and what it has been used for. */
  "cache/stats": { params: NoParams; result: CacheStatsResult };
  /** Forget what is cached of a model or of all, pins included. */
  "cache/clear": { params: CacheClearParams; result: CacheClearResult };
  /** Compute a prefix and keep it. */
  "cache/warm": { params: CacheWarmParams; result: CacheWarmResult };
  /** Write what is cached of a conversation to a file. */
  "cache/export": { params: CacheExportParams; result: CacheFileResult };
  /** Take in what cache/export wrote. */
  "cache/import": { params: CacheImportParams; result: CacheFileResult };
  /** Counters, latencies, health, memory. */
  "stats": { params: NoParams; result: StatsResult };
  /** This table as an OpenRPC document. */
  "rpc.discover": { params: NoParams; result: DiscoverResult };
}

/** What the sidecar tells: parameters of each notification. */
export interface Notices {
  /** New text of a stream. */
  "stream/delta": StreamDelta;
  /** A stream lost its engine and will go on. */
  "stream/interrupted": StreamInterrupted;
  /** How far a load is. */
  "progress": ProgressParams;
  /** Something for the host's log. */
  "log": LogParams;
  /** The engine process changed its state. */
  "engine/state": EngineStateParams;
}

/** Each kind of error with its code, and whether the same request may succeed later. */
export const ERRORS = {
  parse_error: { code: -32700, retryable: false },
  nesting_too_deep: { code: -32700, retryable: false },
  invalid_request: { code: -32600, retryable: false },
  frame_too_large: { code: -32600, retryable: false },
  batch_too_long: { code: -32600, retryable: false },
  method_not_found: { code: -32601, retryable: false },
  invalid_params: { code: -32602, retryable: false },
  internal_error: { code: -32603, retryable: false },
  model_not_found: { code: -32001, retryable: false },
  model_load_failed: { code: -32001, retryable: false },
  model_unsupported: { code: -32001, retryable: false },
  not_initialized: { code: -32002, retryable: false },
  shutting_down: { code: -32002, retryable: false },
  model_not_loaded: { code: -32003, retryable: false },
  model_in_use: { code: -32003, retryable: true },
  context_too_long: { code: -32004, retryable: false },
  unsupported_parameter: { code: -32004, retryable: false },
  overloaded: { code: -32005, retryable: true },
  out_of_memory: { code: -32005, retryable: true },
  deadline_passed: { code: -32005, retryable: true },
  engine_lost: { code: -32006, retryable: true },
  engine_stalled: { code: -32006, retryable: true },
  poison_request: { code: -32006, retryable: false },
  unknown_stream: { code: -32007, retryable: false },
  duplicate_stream: { code: -32007, retryable: false },
  duplicate_id: { code: -32007, retryable: false },
  cancelled: { code: -32800, retryable: false },
} as const;

export type ErrorKind = keyof typeof ERRORS;

/** What `data` of an error of each kind holds. */
export interface ErrorDataOf {
  parse_error: ParseError["data"];
  nesting_too_deep: NestingTooDeep["data"];
  invalid_request: InvalidRequest["data"];
  frame_too_large: FrameTooLarge["data"];
  batch_too_long: BatchTooLong["data"];
  method_not_found: MethodNotFound["data"];
  invalid_params: InvalidParams["data"];
  internal_error: InternalError["data"];
  model_not_found: ModelNotFound["data"];
  model_load_failed: ModelLoadFailed["data"];
  model_unsupported: ModelUnsupported["data"];
  not_initialized: NotInitialized["data"];
  shutting_down: ShuttingDown["data"];
  model_not_loaded: ModelNotLoaded["data"];
  model_in_use: ModelInUse["data"];
  context_too_long: ContextTooLong["data"];
  unsupported_parameter: UnsupportedParameter["data"];
  overloaded: Overloaded["data"];
  out_of_memory: OutOfMemory["data"];
  deadline_passed: DeadlinePassed["data"];
  engine_lost: EngineLost["data"];
  engine_stalled: EngineStalled["data"];
  poison_request: PoisonRequest["data"];
  unknown_stream: UnknownStream["data"];
  duplicate_stream: DuplicateStream["data"];
  duplicate_id: DuplicateId["data"];
  cancelled: Cancelled["data"];
}

/**
 * Messages of mlx-sidecar, protocol version 1.
 */
export type AnyFrame = AnyIncomingFrame | AnyOutgoingFrame;
export type AnyIncomingFrame = Request | Notification | Batch;
export type Request =
  | InitializeRequest
  | PingRequest
  | ShutdownRequest
  | LoadRequest
  | UnloadRequest
  | ModelsRequest
  | GenerateRequest
  | TokenizeRequest
  | DetokenizeRequest
  | RenderRequest
  | StreamCancelRequest
  | StreamSubscribeRequest
  | StreamAckRequest
  | CacheStatsRequest
  | CacheClearRequest
  | CacheWarmRequest
  | CacheExportRequest
  | CacheImportRequest
  | StatsRequest
  | RpcDiscoverRequest;
export type Notification = InitializedNotification | ExitNotification | CancelRequestNotification;
export type Batch = (Request | Notification)[];
export type AnyOutgoingFrame = ServerNotification | SuccessResponse | ErrorResponse | BatchResponse;
export type ServerNotification =
  | StreamDeltaNotification
  | StreamInterruptedNotification
  | ProgressNotification
  | LogNotification
  | EngineStateNotification;
export type Result =
  | InitializeResult
  | EmptyResult
  | LoadResult
  | UnloadResult
  | ModelsResult
  | GenerateResult
  | TokenizeResult
  | DetokenizeResult
  | RenderResult
  | StreamSubscribeResult
  | CacheStatsResult
  | CacheClearResult
  | CacheWarmResult
  | CacheFileResult
  | StatsResult
  | DiscoverResult;
export type RpcError =
  | ParseError
  | NestingTooDeep
  | InvalidRequest
  | FrameTooLarge
  | BatchTooLong
  | MethodNotFound
  | InvalidParams
  | InternalError
  | ModelNotFound
  | ModelLoadFailed
  | ModelUnsupported
  | NotInitialized
  | ShuttingDown
  | ModelNotLoaded
  | ModelInUse
  | ContextTooLong
  | UnsupportedParameter
  | Overloaded
  | OutOfMemory
  | DeadlinePassed
  | EngineLost
  | EngineStalled
  | PoisonRequest
  | UnknownStream
  | DuplicateStream
  | DuplicateId
  | Cancelled;
export type BatchResponse = (SuccessResponse | ErrorResponse)[];

/**
 * Agree on a version; optional, and then the first request and the only one of its kind.
 */
export interface InitializeRequest {
  jsonrpc: "2.0";
  id: string | number;
  method: "initialize";
  params: InitializeParams;
}
/**
 * ``capabilities`` is free: version 1 reads none of the host's.
 */
export interface InitializeParams {
  protocol_version: number;
  client: ClientInfo;
  /**
   * the sidecar leaves when this process does
   */
  process_id?: number | null;
  capabilities?: {
    [k: string]: unknown;
  } | null;
}
export interface ClientInfo {
  name: string;
  version?: string | null;
}
/**
 * Answer at once.
 */
export interface PingRequest {
  jsonrpc: "2.0";
  id: string | number;
  method: "ping";
  params?: NoParams | null;
}
/**
 * A method without parameters.
 */
export interface NoParams {}
/**
 * Take no new work; answer when what runs has ended.
 */
export interface ShutdownRequest {
  jsonrpc: "2.0";
  id: string | number;
  method: "shutdown";
  params?: ShutdownParams | null;
}
export interface ShutdownParams {
  /**
   * cancel what runs; else let it end
   */
  cancel?: boolean | null;
}
/**
 * Make a model resident; a resident one just answers its card.
 */
export interface LoadRequest {
  jsonrpc: "2.0";
  id: string | number;
  method: "load";
  params: LoadParams;
}
export interface LoadParams {
  model: string;
  /**
   * a local directory; without it the name is resolved
   */
  path?: string | null;
  revision?: string | null;
  adapter?: string | null;
  /**
   * never evict it
   */
  pin?: boolean | null;
  /**
   * unload after this long without use
   */
  ttl_s?: number | null;
  dtype?: ("float32" | "float16" | "bfloat16") | null;
  /**
   * turns progress notifications on
   */
  progress?: string | number | null;
}
/**
 * Drop a model and free its memory.
 */
export interface UnloadRequest {
  jsonrpc: "2.0";
  id: string | number;
  method: "unload";
  params: UnloadParams;
}
export interface UnloadParams {
  model: string;
  /**
   * end its running streams as error
   */
  force?: boolean | null;
}
/**
 * The models that are resident or on their way.
 */
export interface ModelsRequest {
  jsonrpc: "2.0";
  id: string | number;
  method: "models";
  params?: NoParams | null;
}
/**
 * Continue a prompt, a chat or tokens; streamed if the host names a stream.
 */
export interface GenerateRequest {
  jsonrpc: "2.0";
  id: string | number;
  method: "generate";
  params: GenerateParams;
}
/**
 * Parameters of ``generate``: exactly one of ``prompt``, ``messages`` and ``tokens``, and how to continue it.
 *
 * Without ``temperature`` the answer is greedy. A parameter that is known here and that the model, the backend or
 * this version cannot honour is refused with ``unsupported_parameter``.
 */
export interface GenerateParams {
  model: string;
  prompt?: string | null;
  messages?: Message[] | null;
  tools?:
    | {
        [k: string]: unknown;
      }[]
    | null;
  template_args?: {
    [k: string]: unknown;
  } | null;
  tokens?: number[] | null;
  /**
   * turns deltas on, under this name
   */
  stream?: string | number | null;
  /**
   * deltas that may go unacknowledged
   */
  window?: number | null;
  /**
   * between two deltas
   */
  min_interval_ms?: number | null;
  /**
   * whether the result repeats text and tokens that were streamed
   */
  echo_text?: boolean | null;
  /**
   * without it: what the model's context leaves
   */
  max_tokens?: number | null;
  temperature?: number | null;
  top_p?: number | null;
  /**
   * 0: off
   */
  top_k?: number | null;
  min_p?: number | null;
  repetition_penalty?: number | null;
  presence_penalty?: number | null;
  frequency_penalty?: number | null;
  /**
   * token id to what is added
   */
  logit_bias?: {
    /**
     * This interface was referenced by `undefined`'s JSON-Schema definition
     * via the `patternProperty` "^(0|[1-9][0-9]{0,9})$".
     */
    [k: string]: number;
  } | null;
  /**
   * below 2^63; without it: we pick one
   */
  seed?: number | null;
  /**
   * at most 16 strings; the text ends before the first that appears
   */
  stop?: string[] | null;
  /**
   * at most 256; they end the text as the model's own end of turn does
   */
  stop_tokens?: number[] | null;
  ignore_eos?: boolean | null;
  /**
   * report log probabilities, with how many alternatives for each token
   */
  logprobs?: number | null;
  priority?: ("critical" | "high" | "normal" | "low") | null;
  /**
   * from the arrival of the request; then it ends with what there is
   */
  deadline_s?: number | null;
  /**
   * tell where the prompt left the nearest one that is known
   */
  explain_cache?: boolean | null;
  /**
   * false: special tokens stand in the text
   */
  skip_special?: boolean | null;
  /**
   * text of prompt and messages never becomes a control token
   */
  escape_special?: boolean | null;
}
/**
 * One message of a chat, as the model's template will see it.
 *
 * Members beyond those named here are kept and handed to the template, which may know them; a template that
 * knows nothing of a member cannot be told from one that ignores it on purpose.
 */
export interface Message {
  /**
   * system, user, assistant, tool, developer, or what else the template knows
   */
  role: string;
  content?: string | TextPart[] | null;
  name?: string | null;
  reasoning_content?: string | null;
  tool_calls?:
    | {
        [k: string]: unknown;
      }[]
    | null;
  tool_call_id?: string | null;
  [k: string]: unknown;
}
/**
 * A piece of a message's content.
 */
export interface TextPart {
  type: "text";
  text: string;
}
/**
 * Text to token ids.
 */
export interface TokenizeRequest {
  jsonrpc: "2.0";
  id: string | number;
  method: "tokenize";
  params: TokenizeParams;
}
export interface TokenizeParams {
  model: string;
  text: string;
  /**
   * whether the tokenizer adds its own special tokens, as for a prompt
   */
  add_special?: boolean | null;
  /**
   * answer the text of each token too
   */
  pieces?: boolean | null;
  /**
   * nothing of the text becomes a control token
   */
  escape_special?: boolean | null;
}
/**
 * Token ids to text.
 */
export interface DetokenizeRequest {
  jsonrpc: "2.0";
  id: string | number;
  method: "detokenize";
  params: DetokenizeParams;
}
export interface DetokenizeParams {
  model: string;
  tokens: number[];
}
/**
 * What a chat becomes under the model's template.
 */
export interface RenderRequest {
  jsonrpc: "2.0";
  id: string | number;
  method: "render";
  params: RenderParams;
}
/**
 * What ``generate`` would do with these messages, without doing it.
 */
export interface RenderParams {
  model: string;
  messages: Message[];
  tools?:
    | {
        [k: string]: unknown;
      }[]
    | null;
  template_args?: {
    [k: string]: unknown;
  } | null;
  add_generation_prompt?: boolean | null;
  /**
   * text of messages, tools and template_args never becomes a control token
   */
  escape_special?: boolean | null;
}
/**
 * Cancel a stream; idempotent.
 */
export interface StreamCancelRequest {
  jsonrpc: "2.0";
  id: string | number;
  method: "stream/cancel";
  params: StreamCancelParams;
}
export interface StreamCancelParams {
  stream: string | number;
}
/**
 * One delta with all that was missed, then the live ones.
 */
export interface StreamSubscribeRequest {
  jsonrpc: "2.0";
  id: string | number;
  method: "stream/subscribe";
  params: StreamSubscribeParams;
}
export interface StreamSubscribeParams {
  stream: string | number;
  /**
   * the last delta the host has; without it: none
   */
  after_seq?: number | null;
}
/**
 * Say how far a stream with a window was read.
 */
export interface StreamAckRequest {
  jsonrpc: "2.0";
  id: string | number;
  method: "stream/ack";
  params: StreamAckParams;
}
export interface StreamAckParams {
  stream: string | number;
  /**
   * this delta and all before it have been read
   */
  seq: number;
}
/**
 * What the prefix cache holds, and what it has been used for.
 */
export interface CacheStatsRequest {
  jsonrpc: "2.0";
  id: string | number;
  method: "cache/stats";
  params?: NoParams | null;
}
/**
 * Forget what is cached of a model or of all, pins included.
 */
export interface CacheClearRequest {
  jsonrpc: "2.0";
  id: string | number;
  method: "cache/clear";
  params?: CacheClearParams | null;
}
/**
 * Without ``model``: of all models, on disk also of those that are not loaded.
 */
export interface CacheClearParams {
  model?: string | null;
  /**
   * false: only what is in memory
   */
  disk?: boolean | null;
}
/**
 * Compute a prefix and keep it.
 */
export interface CacheWarmRequest {
  jsonrpc: "2.0";
  id: string | number;
  method: "cache/warm";
  params: CacheWarmParams;
}
/**
 * A prefix to compute and to pin.
 */
export interface CacheWarmParams {
  model: string;
  prompt?: string | null;
  messages?: Message[] | null;
  tools?:
    | {
        [k: string]: unknown;
      }[]
    | null;
  template_args?: {
    [k: string]: unknown;
  } | null;
  tokens?: number[] | null;
  /**
   * with messages: whether the template opens an answer; turns that follow do not have it
   */
  add_generation_prompt?: boolean | null;
  priority?: ("critical" | "high" | "normal" | "low") | null;
  /**
   * from the arrival of the request; then it is answered with deadline_passed
   */
  deadline_s?: number | null;
  /**
   * text of prompt and messages never becomes a control token
   */
  escape_special?: boolean | null;
}
/**
 * Write what is cached of a conversation to a file.
 */
export interface CacheExportRequest {
  jsonrpc: "2.0";
  id: string | number;
  method: "cache/export";
  params: CacheExportParams;
}
/**
 * What is known of this prompt goes to a file, which is replaced if it is there.
 */
export interface CacheExportParams {
  path: string;
  model: string;
  prompt?: string | null;
  messages?: Message[] | null;
  tools?:
    | {
        [k: string]: unknown;
      }[]
    | null;
  template_args?: {
    [k: string]: unknown;
  } | null;
  tokens?: number[] | null;
  /**
   * with messages: whether the template opens an answer; turns that follow do not have it
   */
  add_generation_prompt?: boolean | null;
  /**
   * text of prompt and messages never becomes a control token
   */
  escape_special?: boolean | null;
}
/**
 * Take in what cache/export wrote.
 */
export interface CacheImportRequest {
  jsonrpc: "2.0";
  id: string | number;
  method: "cache/import";
  params: CacheImportParams;
}
/**
 * A file that ``cache/export`` wrote for the same weights, adapter and arithmetic.
 */
export interface CacheImportParams {
  path: string;
  model: string;
}
/**
 * Counters, latencies, health, memory.
 */
export interface StatsRequest {
  jsonrpc: "2.0";
  id: string | number;
  method: "stats";
  params?: NoParams | null;
}
/**
 * This table as an OpenRPC document.
 */
export interface RpcDiscoverRequest {
  jsonrpc: "2.0";
  id: string | number;
  method: "rpc.discover";
  params?: NoParams | null;
}
/**
 * The host has read the answer to initialize.
 */
export interface InitializedNotification {
  jsonrpc: "2.0";
  method: "initialized";
  params?: NoParams | null;
}
/**
 * End the process: status 0 after shutdown, else 1.
 */
export interface ExitNotification {
  jsonrpc: "2.0";
  method: "exit";
  params?: NoParams | null;
}
/**
 * Cancel a request by its id.
 */
export interface CancelRequestNotification {
  jsonrpc: "2.0";
  method: "$/cancelRequest";
  params: CancelRequestParams;
}
export interface CancelRequestParams {
  id: string | number;
}
/**
 * New text of a stream.
 */
export interface StreamDeltaNotification {
  jsonrpc: "2.0";
  method: "stream/delta";
  params: StreamDelta;
}
/**
 * New text of a stream. Deltas are numbered from 0 without gaps; their texts in order are the final text.
 */
export interface StreamDelta {
  stream: string | number;
  seq: number;
  /**
   * characters (Unicode code points) of the stream before this text
   */
  offset: number;
  text: string;
  tokens: number[];
  /**
   * one for each of tokens, if asked for
   */
  logprobs?: Logprob[];
}
/**
 * A token that was chosen, and the ``logprobs`` likeliest tokens at its place, likeliest first.
 */
export interface Logprob {
  token: number;
  text: string;
  logprob: number | null;
  top: TokenLogprob[];
}
/**
 * A token, what it says by itself, and its natural log probability; null is minus infinity.
 */
export interface TokenLogprob {
  token: number;
  text: string;
  logprob: number | null;
}
/**
 * A stream lost its engine and will go on.
 */
export interface StreamInterruptedNotification {
  jsonrpc: "2.0";
  method: "stream/interrupted";
  params: StreamInterrupted;
}
/**
 * The engine behind a stream was lost; the next delta continues where the last one ended.
 */
export interface StreamInterrupted {
  stream: string | number;
  because: string;
  /**
   * number of the last delta; absent if there was none
   */
  last_seq?: number;
}
/**
 * How far a load is.
 */
export interface ProgressNotification {
  jsonrpc: "2.0";
  method: "progress";
  params: ProgressParams;
}
/**
 * How far a request with a ``progress`` token is.
 */
export interface ProgressParams {
  token: string | number;
  model: string;
  /**
   * downloading, reading, converting, building: for people; more may come
   */
  stage: string;
  done_bytes: number;
  /**
   * absent while it is not known
   */
  total_bytes?: number;
}
/**
 * Something for the host's log.
 */
export interface LogNotification {
  jsonrpc: "2.0";
  method: "log";
  params: LogParams;
}
/**
 * Something for the host's log. Sent after ``initialize``; before it, and without it, logs go to stderr.
 */
export interface LogParams {
  level: "debug" | "info" | "warning" | "error";
  message: string;
  logger?: string;
}
/**
 * The engine process changed its state.
 */
export interface EngineStateNotification {
  jsonrpc: "2.0";
  method: "engine/state";
  params: EngineStateParams;
}
/**
 * The engine process changed its state: ``lost`` is followed by ``starting`` or, given up, by ``failed``.
 */
export interface EngineStateParams {
  state: "starting" | "ready" | "lost" | "failed" | "stopped";
  restarts: number;
  pid?: number;
  backend?: string;
  device?: string;
  /**
   * with lost and failed
   */
  because?: string;
}
export interface SuccessResponse {
  jsonrpc: "2.0";
  id: string | number | null;
  result: Result;
}
/**
 * ``backend`` is absent while the engine is still finding out; ``engine/state`` tells then.
 */
export interface InitializeResult {
  protocol_version: number;
  server: ServerInfo;
  /**
   * new for each process
   */
  instance: string;
  /**
   * metal, cuda, cpu or fake
   */
  backend?: string;
  capabilities: ServerCapabilities;
  limits: ServerLimits;
}
export interface ServerInfo {
  name: string;
  version: string;
}
/**
 * What this server does, so that a host need not find out by trial.
 */
export interface ServerCapabilities {
  methods: string[];
  /**
   * the parameters of generate that are honoured
   */
  generate_parameters: string[];
  /**
   * whether an operation loads its model by itself
   */
  autoload: boolean;
  cache: CacheTiers;
}
/**
 * Which tiers of the prefix cache are switched on.
 */
export interface CacheTiers {
  ram: boolean;
  disk: boolean;
}
/**
 * Bounds on what the server takes in at once.
 */
export interface ServerLimits {
  frame_bytes: number;
  header_bytes: number;
  /**
   * elements of one batch
   */
  batch: number;
  /**
   * of arrays and objects
   */
  nesting: number;
  /**
   * above it, requests are refused as overloaded
   */
  waiting_requests?: number;
  /**
   * for what is remembered of open requests so that they outlive the engine: four bytes a token of their prompts and of the longest answers they ask for; above it, they are refused as out_of_memory
   */
  journal_bytes: number;
}
/**
 * Done, and nothing to say about it.
 */
export interface EmptyResult {}
/**
 * The card of the model, and what loading it cost: 0 if it was there.
 */
export interface LoadResult {
  model: string;
  state: "loading" | "ready";
  path: string;
  pinned: boolean;
  /**
   * how many are running on it
   */
  streams: number;
  architecture?: string;
  parameters?: number;
  dtype?: string;
  quantization?: string;
  context_length?: number;
  vocabulary?: number;
  memory_bytes?: number;
  /**
   * seconds since its last request
   */
  last_used_s?: number;
  /**
   * how its arithmetic is done
   */
  policy?: string;
  load_s: number;
}
export interface UnloadResult {
  freed_bytes: number;
}
export interface ModelsResult {
  models: ModelCard[];
}
/**
 * A model the engine holds, or is about to. What is not known yet is absent.
 */
export interface ModelCard {
  model: string;
  state: "loading" | "ready";
  path: string;
  pinned: boolean;
  /**
   * how many are running on it
   */
  streams: number;
  architecture?: string;
  parameters?: number;
  dtype?: string;
  quantization?: string;
  context_length?: number;
  vocabulary?: number;
  memory_bytes?: number;
  /**
   * seconds since its last request
   */
  last_used_s?: number;
  /**
   * how its arithmetic is done
   */
  policy?: string;
}
/**
 * The end of a generation. Written after the last delta; nothing of the stream follows.
 */
export interface GenerateResult {
  stream?: string | number;
  /**
   * absent if echo_text is false
   */
  text?: string;
  /**
   * absent if echo_text is false
   */
  tokens?: number[];
  /**
   * one for each of tokens, if asked for; absent if echo_text is false
   */
  logprobs?: Logprob[];
  finish_reason: "stop" | "length" | "cancelled" | "deadline" | "error";
  /**
   * the stop string that ended it
   */
  stop_match?: string;
  error?: ErrorObject;
  usage: Usage;
  timing: Timing;
  /**
   * number of the last delta; absent if there was none
   */
  last_seq?: number;
  seed: number;
  cache?: CacheExplanation;
  /**
   * absent if there is nothing to tell
   */
  warnings?: ResultWarning[];
}
/**
 * with finish_reason error
 */
export interface ErrorObject {
  code: number;
  message: string;
  data: ErrorData;
}
/**
 * What every error carries; each kind adds its own members.
 */
export interface ErrorData {
  kind: string;
  retryable: boolean;
  [k: string]: unknown;
}
/**
 * Tokens. ``cached_tokens`` is the part of ``prompt_tokens`` that needed no prefill, the sum of its tiers.
 */
export interface Usage {
  prompt_tokens: number;
  cached_tokens: number;
  cached_by_tier: CachedByTier;
  completion_tokens: number;
  /**
   * why nothing of this model can be cached; absent where it can
   */
  uncached_because?: string;
}
/**
 * Tokens that were in memory, and those that were read from disk for this request.
 */
export interface CachedByTier {
  ram: number;
  disk: number;
}
/**
 * Seconds. What did not happen is absent: a request cancelled in the queue has only ``queue_s``.
 */
export interface Timing {
  /**
   * until its prefill began; if it ended before the engine had it, until then
   */
  queue_s: number;
  /**
   * loading the model, if this request had to
   */
  load_s?: number;
  /**
   * from there until its first token
   */
  prefill_s?: number;
  /**
   * from the request's arrival to its first token
   */
  first_token_s?: number;
  /**
   * from its first token to its end, pauses included
   */
  decode_s?: number;
}
/**
 * with explain_cache
 */
export interface CacheExplanation {
  prompt_tokens: number;
  /**
   * in common with the nearest known prompt: the number of the first that differs
   */
  known_tokens: number;
  because: "uncacheable" | "nothing_known" | "all_known" | "new_text" | "date" | "key_order" | "changed_text";
  where?: PromptPlace;
  text_before?: string;
  /**
   * how this prompt goes on there
   */
  text_here?: string;
  /**
   * how the known one went on; absent if it ended there
   */
  text_known?: string;
  /**
   * the same as a sentence
   */
  summary: string;
}
/**
 * absent if the whole prompt was known
 */
export interface PromptPlace {
  field: "prompt" | "messages" | "tools" | "template_args" | "tokens" | "template";
  path: (string | number)[];
  /**
   * number of the message, with messages
   */
  message?: number;
  /**
   * of that message
   */
  role?: string;
}
/**
 * Something that was not refused and yet has to be told.
 *
 * Of a chat: ``content_left_out``, ``name_left_out``, ``tool_calls_left_out``, ``tools_left_out`` (the model's chat
 * template does not write them), ``role_unknown`` (it writes the message as one of any other role).
 */
export interface ResultWarning {
  kind: string;
  message: string;
}
export interface TokenizeResult {
  tokens: number[];
  count: number;
  pieces?: string[];
}
export interface DetokenizeResult {
  text: string;
}
export interface RenderResult {
  text: string;
  tokens: number[];
  /**
   * absent if there is nothing to tell
   */
  warnings?: ResultWarning[];
}
/**
 * Where the stream stood. ``finish_reason`` is there once it has ended.
 */
export interface StreamSubscribeResult {
  stream: string | number;
  /**
   * number of the last delta; absent if there was none
   */
  last_seq?: number;
  finish_reason?: "stop" | "length" | "cancelled" | "deadline" | "error";
}
/**
 * What is cached. Counters are totals since the engine started; their names may grow in number.
 */
export interface CacheStatsResult {
  block_tokens: number;
  ram: MemoryTier;
  disk: DiskTier;
  index: PrefixIndex;
  counters: {
    [k: string]: number;
  };
  models: CachedModel[];
}
/**
 * Bytes and blocks. ``limit_bytes`` 0: switched off.
 */
export interface MemoryTier {
  limit_bytes: number;
  used_bytes: number;
  /**
   * part of used_bytes that is not evicted
   */
  pinned_bytes: number;
  blocks: number;
}
/**
 * ``used_bytes`` and ``files`` are of the whole directory, ``blocks`` of the models that are resident.
 */
export interface DiskTier {
  state: "off" | "on" | "failed";
  /**
   * why it has switched itself off
   */
  because?: string;
  path?: string;
  limit_bytes?: number;
  used_bytes: number;
  /**
   * that are still to be written
   */
  pending_bytes: number;
  blocks: number;
  files: number;
}
/**
 * What finds a prompt: blocks known in either tier, and the memory that this takes.
 */
export interface PrefixIndex {
  nodes: number;
  nbytes: number;
}
/**
 * ``identity`` names weights, adapter and arithmetic: models of one identity share what is cached.
 */
export interface CachedModel {
  model: string;
  cacheable: boolean;
  identity?: string;
  /**
   * why it is not cacheable
   */
  because?: string;
}
/**
 * What came free.
 */
export interface CacheClearResult {
  ram_bytes: number;
  disk_bytes: number;
}
/**
 * Tokens of the prefix, those that needed no prefill, and those that stay until they are cleared.
 */
export interface CacheWarmResult {
  tokens: number;
  cached_tokens: number;
  pinned_tokens: number;
  prefill_s: number;
}
/**
 * Tokens of the conversation, and bytes of the file.
 */
export interface CacheFileResult {
  tokens: number;
  nbytes: number;
}
/**
 * What the sidecar knows about itself. Names of counters, gauges and histograms may grow in number.
 */
export interface StatsResult {
  server: ServerInfo;
  instance: string;
  uptime_s: number;
  engine: EngineInfo;
  health: Health;
  queue: Queue;
  memory: Memory;
  counters: {
    [k: string]: number;
  };
  gauges: {
    [k: string]: number | null;
  };
  histograms: {
    [k: string]: Histogram;
  };
}
/**
 * The engine process; what it has not told yet is absent.
 */
export interface EngineInfo {
  state: "starting" | "ready" | "lost" | "failed" | "stopped";
  restarts: number;
  pid?: number;
  backend?: string;
  device?: string;
  numerics?: "fast" | "exact";
  /**
   * how arithmetic is done unless a model's card says otherwise
   */
  policy?: string;
  versions?: {
    [k: string]: string;
  };
}
/**
 * ``last_device_operation_s`` is the age of the last operation the device completed; absent before the first.
 */
export interface Health {
  status: "ok" | "starting" | "degraded" | "failed";
  /**
   * whether a token could be decoded now: a model is resident and the engine keeps up
   */
  ready: boolean;
  /**
   * how often the engine process was started again
   */
  restarts: number;
  last_device_operation_s?: number;
  /**
   * why it is not ok, or what ended the engine last
   */
  reason?: string;
}
/**
 * Requests. ``limit`` is how many may wait before new ones are refused.
 */
export interface Queue {
  waiting: number;
  running: number;
  limit?: number;
}
/**
 * Bytes. ``limit_bytes`` is what the engine may use.
 */
export interface Memory {
  limit_bytes?: number;
  used_bytes?: number;
  peak_bytes?: number;
  cache_bytes?: number;
  models_bytes?: number;
  /**
   * resident size of the front
   */
  front_bytes?: number;
  /**
   * resident size of the engine process
   */
  engine_bytes?: number;
}
/**
 * ``counts[i]`` values were at most ``bounds[i]`` and above the bound before; the last count is those above all.
 */
export interface Histogram {
  bounds: number[];
  counts: number[];
}
/**
 * An OpenRPC document.
 */
export interface DiscoverResult {
  openrpc: string;
  info: {
    [k: string]: unknown;
  };
  methods: {
    [k: string]: unknown;
  }[];
  components: {
    [k: string]: unknown;
  };
  /**
   * what the sidecar sends; OpenRPC has no word for it
   */
  "x-notifications": {
    [k: string]: unknown;
  }[];
}
export interface ErrorResponse {
  jsonrpc: "2.0";
  id: string | number | null;
  error: RpcError;
}
export interface ParseError {
  code: -32700;
  message: string;
  data: {
    kind: "parse_error";
    retryable: false;
    because: string;
  };
}
export interface NestingTooDeep {
  code: -32700;
  message: string;
  data: {
    kind: "nesting_too_deep";
    retryable: false;
    limit: number;
  };
}
export interface InvalidRequest {
  code: -32600;
  message: string;
  data: {
    kind: "invalid_request";
    retryable: false;
  };
}
export interface FrameTooLarge {
  code: -32600;
  message: string;
  data: {
    kind: "frame_too_large";
    retryable: false;
    limit_bytes: number;
  };
}
export interface BatchTooLong {
  code: -32600;
  message: string;
  data: {
    kind: "batch_too_long";
    retryable: false;
    have: number;
    limit: number;
  };
}
export interface MethodNotFound {
  code: -32601;
  message: string;
  data: {
    kind: "method_not_found";
    retryable: false;
  };
}
export interface InvalidParams {
  code: -32602;
  message: string;
  data: {
    kind: "invalid_params";
    retryable: false;
    /**
     * Items: One field at fault. ``loc`` is the way to it: names and list indices.
     */
    errors: {
      loc: (string | number)[];
      msg: string;
      type: string;
    }[];
  };
}
export interface InternalError {
  code: -32603;
  message: string;
  data: {
    kind: "internal_error";
    retryable: false;
  };
}
export interface ModelNotFound {
  code: -32001;
  message: string;
  data: {
    kind: "model_not_found";
    retryable: false;
    model: string;
  };
}
export interface ModelLoadFailed {
  code: -32001;
  message: string;
  data: {
    kind: "model_load_failed";
    retryable: false;
    model: string;
    because: string;
  };
}
export interface ModelUnsupported {
  code: -32001;
  message: string;
  data: {
    kind: "model_unsupported";
    retryable: false;
    model: string;
    because: string;
  };
}
export interface NotInitialized {
  code: -32002;
  message: string;
  data: {
    kind: "not_initialized";
    retryable: false;
  };
}
export interface ShuttingDown {
  code: -32002;
  message: string;
  data: {
    kind: "shutting_down";
    retryable: false;
  };
}
export interface ModelNotLoaded {
  code: -32003;
  message: string;
  data: {
    kind: "model_not_loaded";
    retryable: false;
    model: string;
  };
}
export interface ModelInUse {
  code: -32003;
  message: string;
  data: {
    kind: "model_in_use";
    retryable: true;
    model: string;
    streams: number;
  };
}
export interface ContextTooLong {
  code: -32004;
  message: string;
  data: {
    kind: "context_too_long";
    retryable: false;
    have: number;
    limit: number;
  };
}
export interface UnsupportedParameter {
  code: -32004;
  message: string;
  data: {
    kind: "unsupported_parameter";
    retryable: false;
    name: string;
    because: string;
  };
}
export interface Overloaded {
  code: -32005;
  message: string;
  data: {
    kind: "overloaded";
    retryable: true;
    queue: number;
    limit: number;
    retry_after_s: number;
  };
}
export interface OutOfMemory {
  code: -32005;
  message: string;
  data: {
    kind: "out_of_memory";
    retryable: true;
    need_bytes: number;
    have_bytes: number;
  };
}
export interface DeadlinePassed {
  code: -32005;
  message: string;
  data: {
    kind: "deadline_passed";
    retryable: true;
  };
}
export interface EngineLost {
  code: -32006;
  message: string;
  data: {
    kind: "engine_lost";
    retryable: true;
    because?: string;
  };
}
export interface EngineStalled {
  code: -32006;
  message: string;
  data: {
    kind: "engine_stalled";
    retryable: true;
    because?: string;
  };
}
export interface PoisonRequest {
  code: -32006;
  message: string;
  data: {
    kind: "poison_request";
    retryable: false;
    because?: string;
  };
}
export interface UnknownStream {
  code: -32007;
  message: string;
  data: {
    kind: "unknown_stream";
    retryable: false;
    stream: string | number;
  };
}
export interface DuplicateStream {
  code: -32007;
  message: string;
  data: {
    kind: "duplicate_stream";
    retryable: false;
    stream: string | number;
  };
}
export interface DuplicateId {
  code: -32007;
  message: string;
  data: {
    kind: "duplicate_id";
    retryable: false;
  };
}
export interface Cancelled {
  code: -32800;
  message: string;
  data: {
    kind: "cancelled";
    retryable: false;
  };
}
