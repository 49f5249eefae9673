// Generated from schemas/ by scripts/generate.mjs (npm run types). Do not edit.

export const VERSION = "0.1.0";

export const PROTOCOL_VERSION = 1;

/** What a host can ask for: parameters and result of each method. */
export interface Requests {
  /** Agree on a version; optional, and then the first request and the only one of its kind. */
  "initialize": { params: InitializeParams; result: InitializeResult };
  /** Answer at once. */
  "ping": { params: NoParams; result: EmptyResult };
  /** Take no new work, and answer when running requests have ended. */
  "shutdown": { params: ShutdownParams; result: EmptyResult };
  /** Make a model resident, and answer its card. */
  "load": { params: LoadParams; result: LoadResult };
  /** Drop a model and free its memory. */
  "unload": { params: UnloadParams; result: UnloadResult };
  /** The models that are resident or on their way. */
  "models": { params: NoParams; result: ModelsResult };
  /** Let requests to a model name an adapter, and answer its card. */
  "adapter/load": { params: AdapterLoadParams; result: AdapterLoadResult };
  /** Take no new request with an adapter, and answer when the last one has ended. */
  "adapter/unload": { params: AdapterUnloadParams; result: AdapterUnloadResult };
  /** The adapters that requests may name. */
  "adapters": { params: AdaptersParams; result: AdaptersResult };
  /** Continue a prompt, a chat or tokens; streamed if the host names a stream. */
  "generate": { params: GenerateParams; result: GenerateResult };
  /** Text to token ids. */
  "tokenize": { params: TokenizeParams; result: TokenizeResult };
  /** Token ids to text. */
  "detokenize": { params: DetokenizeParams; result: DetokenizeResult };
  /** The text and tokens of a chat under the model's template. */
  "render": { params: RenderParams; result: RenderResult };
  /** Whether one model can make proposals for another. */
  "check_draft": { params: CheckDraftParams; result: CheckDraftResult };
  /** A vector for each text. */
  "embed": { params: EmbedParams; result: EmbedResult };
  /** A score for each document, by a query. */
  "rerank": { params: RerankParams; result: RerankResult };
  /** Cancel a stream; idempotent. */
  "stream/cancel": { params: StreamCancelParams; result: EmptyResult };
  /** Send one delta with all missed text, then the live ones. */
  "stream/subscribe": { params: StreamSubscribeParams; result: StreamSubscribeResult };
  /** Acknowledge deltas of a stream with a window. */
  "stream/ack": { params: StreamAckParams; result: EmptyResult };
  /** Contents and counters of the prefix cache. */
  "cache/stats": { params: NoParams; result: CacheStatsResult };
  /** Forget cached prompts of one model or of all, pinned ones included. */
  "cache/clear": { params: CacheClearParams; result: CacheClearResult };
  /** Compute a prefix, and pin it in the cache. */
  "cache/warm": { params: CacheWarmParams; result: CacheWarmResult };
  /** Write the cached part of a conversation to a file. */
  "cache/export": { params: CacheExportParams; result: CacheFileResult };
  /** Read a file of cache/export into the cache. */
  "cache/import": { params: CacheImportParams; result: CacheFileResult };
  /** Open a chat that is continued by its handle. */
  "session/open": { params: SessionOpenParams; result: SessionResult };
  /** Another session that goes on from a turn of this one. */
  "session/fork": { params: SessionForkParams; result: SessionResult };
  /** Remove all turns behind one. */
  "session/rollback": { params: SessionRollbackParams; result: SessionRollbackResult };
  /** The turns of a session. */
  "session/get": { params: OfSession; result: SessionGetResult };
  /** Forget a session. */
  "session/close": { params: OfSession; result: EmptyResult };
  /** Write a session to a file. */
  "session/export": { params: SessionExportParams; result: SessionFileResult };
  /** Open the session that is in a file. */
  "session/import": { params: SessionImportParams; result: SessionFileResult };
  /** The models on this machine, with what their files tell. */
  "local/list": { params: LocalListParams; result: LocalListResult };
  /** Delete a model of the hub's cache or of mlx-sidecar's own folder. */
  "local/delete": { params: LocalDeleteParams; result: LocalDeleteResult };
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
  /** The progress of a load. */
  "progress": ProgressParams;
  /** A line for the host's log. */
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
  too_many_values: { code: -32600, retryable: false },
  method_not_found: { code: -32601, retryable: false },
  invalid_params: { code: -32602, retryable: false },
  internal_error: { code: -32603, retryable: false },
  model_not_found: { code: -32001, retryable: false },
  model_load_failed: { code: -32001, retryable: false },
  model_unsupported: { code: -32001, retryable: false },
  adapter_load_failed: { code: -32001, retryable: false },
  adapter_unsupported: { code: -32001, retryable: false },
  not_initialized: { code: -32002, retryable: false },
  shutting_down: { code: -32002, retryable: false },
  model_not_loaded: { code: -32003, retryable: false },
  model_in_use: { code: -32003, retryable: true },
  context_too_long: { code: -32004, retryable: false },
  unsupported_parameter: { code: -32004, retryable: false },
  constraint_unsatisfiable: { code: -32004, retryable: false },
  overloaded: { code: -32005, retryable: true },
  out_of_memory: { code: -32005, retryable: true },
  deadline_passed: { code: -32005, retryable: true },
  engine_lost: { code: -32006, retryable: true },
  engine_stalled: { code: -32006, retryable: true },
  poison_request: { code: -32006, retryable: false },
  non_finite_logits: { code: -32006, retryable: false },
  non_finite_embedding: { code: -32006, retryable: false },
  unknown_stream: { code: -32007, retryable: false },
  unknown_session: { code: -32007, retryable: false },
  unknown_adapter: { code: -32007, retryable: false },
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
  too_many_values: TooManyValues["data"];
  method_not_found: MethodNotFound["data"];
  invalid_params: InvalidParams["data"];
  internal_error: InternalError["data"];
  model_not_found: ModelNotFound["data"];
  model_load_failed: ModelLoadFailed["data"];
  model_unsupported: ModelUnsupported["data"];
  adapter_load_failed: AdapterLoadFailed["data"];
  adapter_unsupported: AdapterUnsupported["data"];
  not_initialized: NotInitialized["data"];
  shutting_down: ShuttingDown["data"];
  model_not_loaded: ModelNotLoaded["data"];
  model_in_use: ModelInUse["data"];
  context_too_long: ContextTooLong["data"];
  unsupported_parameter: UnsupportedParameter["data"];
  constraint_unsatisfiable: ConstraintUnsatisfiable["data"];
  overloaded: Overloaded["data"];
  out_of_memory: OutOfMemory["data"];
  deadline_passed: DeadlinePassed["data"];
  engine_lost: EngineLost["data"];
  engine_stalled: EngineStalled["data"];
  poison_request: PoisonRequest["data"];
  non_finite_logits: NonFiniteLogits["data"];
  non_finite_embedding: NonFiniteEmbedding["data"];
  unknown_stream: UnknownStream["data"];
  unknown_session: UnknownSession["data"];
  unknown_adapter: UnknownAdapter["data"];
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
  | AdapterLoadRequest
  | AdapterUnloadRequest
  | AdaptersRequest
  | GenerateRequest
  | TokenizeRequest
  | DetokenizeRequest
  | RenderRequest
  | CheckDraftRequest
  | EmbedRequest
  | RerankRequest
  | StreamCancelRequest
  | StreamSubscribeRequest
  | StreamAckRequest
  | CacheStatsRequest
  | CacheClearRequest
  | CacheWarmRequest
  | CacheExportRequest
  | CacheImportRequest
  | SessionOpenRequest
  | SessionForkRequest
  | SessionRollbackRequest
  | SessionGetRequest
  | SessionCloseRequest
  | SessionExportRequest
  | SessionImportRequest
  | LocalListRequest
  | LocalDeleteRequest
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
  | AdapterLoadResult
  | AdapterUnloadResult
  | AdaptersResult
  | GenerateResult
  | TokenizeResult
  | DetokenizeResult
  | RenderResult
  | CheckDraftResult
  | EmbedResult
  | RerankResult
  | StreamSubscribeResult
  | CacheStatsResult
  | CacheClearResult
  | CacheWarmResult
  | CacheFileResult
  | SessionResult
  | SessionRollbackResult
  | SessionGetResult
  | SessionFileResult
  | LocalListResult
  | LocalDeleteResult
  | StatsResult
  | DiscoverResult;
export type RpcError =
  | ParseError
  | NestingTooDeep
  | InvalidRequest
  | FrameTooLarge
  | BatchTooLong
  | TooManyValues
  | MethodNotFound
  | InvalidParams
  | InternalError
  | ModelNotFound
  | ModelLoadFailed
  | ModelUnsupported
  | AdapterLoadFailed
  | AdapterUnsupported
  | NotInitialized
  | ShuttingDown
  | ModelNotLoaded
  | ModelInUse
  | ContextTooLong
  | UnsupportedParameter
  | ConstraintUnsatisfiable
  | Overloaded
  | OutOfMemory
  | DeadlinePassed
  | EngineLost
  | EngineStalled
  | PoisonRequest
  | NonFiniteLogits
  | NonFiniteEmbedding
  | UnknownStream
  | UnknownSession
  | UnknownAdapter
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
 * The host's version and name. ``capabilities`` may hold anything: version 1 reads none of the host's.
 */
export interface InitializeParams {
  protocol_version: number;
  client: ClientInfo;
  /**
   * a process with whose end the sidecar ends too
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
 * Take no new work, and answer when running requests have ended.
 */
export interface ShutdownRequest {
  jsonrpc: "2.0";
  id: string | number;
  method: "shutdown";
  params?: ShutdownParams | null;
}
export interface ShutdownParams {
  /**
   * cancel running requests, instead of waiting for their end
   */
  cancel?: boolean | null;
}
/**
 * Make a model resident, and answer its card.
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
   * a local directory; without it, model is the name of one or of a model on the hub
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
   * turns progress notifications on, under this name
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
   * end its running streams with an error
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
 * Let requests to a model name an adapter, and answer its card.
 */
export interface AdapterLoadRequest {
  jsonrpc: "2.0";
  id: string | number;
  method: "adapter/load";
  params: AdapterLoadParams;
}
export interface AdapterLoadParams {
  model: string;
  adapter: string;
  /**
   * its directory, with files of mlx-lm or of PEFT
   */
  path: string;
}
/**
 * Take no new request with an adapter, and answer when the last one has ended.
 */
export interface AdapterUnloadRequest {
  jsonrpc: "2.0";
  id: string | number;
  method: "adapter/unload";
  params: AdapterUnloadParams;
}
export interface AdapterUnloadParams {
  model: string;
  adapter: string;
}
/**
 * The adapters that requests may name.
 */
export interface AdaptersRequest {
  jsonrpc: "2.0";
  id: string | number;
  method: "adapters";
  params?: AdaptersParams | null;
}
export interface AdaptersParams {
  /**
   * by default those of all models
   */
  model?: string | null;
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
 * With a ``session``, ``messages`` are those behind its turn ``at``, and model, tools and template_args are its own.
 * Without ``temperature`` the answer is greedy. A parameter that the model, the backend or this version cannot honour
 * is refused with ``unsupported_parameter``.
 */
export interface GenerateParams {
  /**
   * needed without session
   */
  model?: string | null;
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
   * deltas sent beyond the last one acknowledged, before the stream pauses
   */
  window?: number | null;
  /**
   * least time between two deltas
   */
  min_interval_ms?: number | null;
  /**
   * whether the result repeats text and tokens that were streamed
   */
  echo_text?: boolean | null;
  /**
   * without it: as many as the model's context leaves
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
   * token id to the number added to its logit
   */
  logit_bias?: {
    /**
     * This interface was referenced by `undefined`'s JSON-Schema definition
     * via the `patternProperty` "^(0|[1-9][0-9]{0,9})$".
     */
    [k: string]: number;
  } | null;
  /**
   * below 2^63; without it the sidecar picks one
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
   * report log probabilities, with this many alternatives for each token
   */
  logprobs?: number | null;
  priority?: ("critical" | "high" | "normal" | "low") | null;
  /**
   * seconds from the request's arrival, after which it ends with the text so far
   */
  deadline_s?: number | null;
  /**
   * report where the prompt left the nearest cached one
   */
  explain_cache?: boolean | null;
  /**
   * whether special tokens are left out of the text
   */
  skip_special?: boolean | null;
  /**
   * whether text of prompt and messages is kept from becoming control tokens
   */
  escape_special?: boolean | null;
  /**
   * the form that the answer must have; reasoning before it is free
   */
  response_format?:
    (TextFormat | JsonObjectFormat | JsonSchemaFormat | RegexFormat | ChoiceFormat | GrammarFormat) | null;
  /**
   * where proposals come from, which the model verifies; false: no proposals
   */
  speculation?: (Speculation | false) | null;
  /**
   * whether the answer calls a tool, and which; auto if there are tools
   */
  tool_choice?: (NamedTool | ("auto" | "none" | "required")) | null;
  /**
   * false: one call at most
   */
  parallel_tool_calls?: boolean | null;
  /**
   * whether reasoning and tool calls are taken out of the text; parsed with messages, raw without
   */
  output?: ("parsed" | "raw") | null;
  /**
   * how the model writes calls, instead of what its chat template tells
   */
  tool_format?: string | null;
  /**
   * tokens of reasoning after which its end is forced
   */
  reasoning_budget?: number | null;
  /**
   * end the answer when so many of its last tokens are a loop: the same third of them or less, again and again
   */
  repeat_guard?: number | null;
  /**
   * the chat that messages continue
   */
  session?: string | null;
  /**
   * the turn of the session to continue; by default the latest
   */
  at?: string | null;
  /**
   * turns (the default): the prompt is the tokens of the turns before, as they were computed, and the new messages; template: the whole chat as the model's template renders it
   */
  render?: ("turns" | "template") | null;
  /**
   * drop_oldest, with messages: the oldest turns behind the system messages are left out where the chat would not leave room for max_tokens, or else for a quarter of the context
   */
  context_overflow?: ("refuse" | "drop_oldest") | null;
  /**
   * one of the model's adapters, by its name, for this request alone
   */
  adapter?: string | null;
}
/**
 * One message of a chat, as the model's template will see it.
 *
 * Members beyond those named here are passed to the template, which may know them.
 */
export interface Message {
  /**
   * system, user, assistant, tool, developer, or another role of the template
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
 * A part of a message's content.
 */
export interface TextPart {
  type: "text";
  text: string;
}
/**
 * Any text, as without ``response_format``.
 */
export interface TextFormat {
  type: "text";
}
/**
 * Any JSON object.
 */
export interface JsonObjectFormat {
  type: "json_object";
  /**
   * fixed: one space behind commas and colons, and no other between values; flexible: up to 8 white spaces wherever JSON has them
   */
  whitespace?: ("fixed" | "flexible") | null;
}
/**
 * JSON that is valid under a schema, with its members in the schema's order.
 *
 * The schema stands in ``schema``, or in ``json_schema``.
 */
export interface JsonSchemaFormat {
  type: "json_schema";
  schema?: {
    [k: string]: unknown;
  } | null;
  json_schema?: NamedSchema | null;
  /**
   * fixed: one space behind commas and colons, and no other between values; flexible: up to 8 white spaces wherever JSON has them
   */
  whitespace?: ("fixed" | "flexible") | null;
}
/**
 * A schema as OpenAI's interface nests it. Name and description are for the host alone.
 */
export interface NamedSchema {
  name?: string | null;
  description?: string | null;
  schema: {
    [k: string]: unknown;
  };
  /**
   * an answer always follows its schema, so that false is refused
   */
  strict?: true | null;
}
/**
 * Text that a regular expression matches as a whole. It has the syntax of Rust's ``regex``.
 */
export interface RegexFormat {
  type: "regex";
  /**
   * matches the whole answer; without look-around and back references
   */
  pattern: string;
}
/**
 * One of several texts.
 */
export interface ChoiceFormat {
  type: "choice";
  /**
   * at most 1024
   */
  choices: string[];
}
/**
 * Text of a context-free grammar: ``lark`` in llguidance's dialect, or ``gbnf``, that of llama.cpp.
 */
export interface GrammarFormat {
  type: "grammar";
  syntax: "lark" | "gbnf";
  grammar: string;
}
/**
 * Sources of proposals. The answer's tokens are those without them.
 */
export interface Speculation {
  /**
   * propose what followed the latest tokens where they stood before in prompt or answer
   */
  ngram?: boolean | null;
  /**
   * a resident model with the same vocabulary: check_draft
   */
  draft?: string | null;
  /**
   * most proposals of one pass; without it the engine decides
   */
  max_tokens?: number | null;
}
/**
 * A tool by its name.
 */
export interface NamedTool {
  name: string;
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
   * whether the text is kept from becoming control tokens
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
 * The text and tokens of a chat under the model's template.
 */
export interface RenderRequest {
  jsonrpc: "2.0";
  id: string | number;
  method: "render";
  params: RenderParams;
}
/**
 * A chat to be rendered and tokenised as ``generate`` would.
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
   * whether text of messages, tools and template_args is kept from becoming control tokens
   */
  escape_special?: boolean | null;
}
/**
 * Whether one model can make proposals for another.
 */
export interface CheckDraftRequest {
  jsonrpc: "2.0";
  id: string | number;
  method: "check_draft";
  params: CheckDraftParams;
}
/**
 * Two models: ``draft`` would make proposals for ``model``. Neither is loaded for this.
 */
export interface CheckDraftParams {
  model: string;
  draft: string;
}
/**
 * A vector for each text.
 */
export interface EmbedRequest {
  jsonrpc: "2.0";
  id: string | number;
  method: "embed";
  params: EmbedParams;
}
/**
 * Texts of which each is given a vector; token lists are taken as they are, without special tokens around them.
 */
export interface EmbedParams {
  model: string;
  /**
   * strings or lists of token ids, at most 2048
   */
  input: (string | number[])[];
  /**
   * instead of what the model's files say
   */
  pooling?: ("mean" | "cls" | "last" | "max") | null;
  /**
   * the first so many numbers of each vector, for models that were trained for that
   */
  dimensions?: number | null;
  /**
   * to length 1; by default what the model's files say
   */
  normalize?: boolean | null;
  /**
   * cut texts at the model's limit instead of refusing the request
   */
  truncate?: boolean | null;
  /**
   * put before each text; only goes with strings
   */
  instruction?: string | null;
  /**
   * name of a prompt in the model's files, which is put before each text; instead of instruction
   */
  prompt?: string | null;
  /**
   * base64: of float32, little-endian
   */
  encoding?: ("float" | "base64") | null;
  priority?: ("critical" | "high" | "normal" | "low") | null;
  /**
   * seconds from the request's arrival, after which it fails with deadline_passed
   */
  deadline_s?: number | null;
}
/**
 * A score for each document, by a query.
 */
export interface RerankRequest {
  jsonrpc: "2.0";
  id: string | number;
  method: "rerank";
  params: RerankParams;
}
/**
 * Documents of which each is given a score for how well it answers the query.
 */
export interface RerankParams {
  model: string;
  query: string;
  /**
   * at most 2048
   */
  documents: string[];
  /**
   * answer the best so many only
   */
  top_n?: number | null;
  /**
   * what makes a document fit, for models that read one
   */
  instruction?: string | null;
  /**
   * cut documents at the model's limit instead of refusing the request
   */
  truncate?: boolean | null;
  priority?: ("critical" | "high" | "normal" | "low") | null;
  /**
   * seconds from the request's arrival, after which it fails with deadline_passed
   */
  deadline_s?: number | null;
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
 * Send one delta with all missed text, then the live ones.
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
   * number of the last delta that the host has; without it: none
   */
  after_seq?: number | null;
}
/**
 * Acknowledge deltas of a stream with a window.
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
   * number of the last delta that the host has read
   */
  seq: number;
}
/**
 * Contents and counters of the prefix cache.
 */
export interface CacheStatsRequest {
  jsonrpc: "2.0";
  id: string | number;
  method: "cache/stats";
  params?: NoParams | null;
}
/**
 * Forget cached prompts of one model or of all, pinned ones included.
 */
export interface CacheClearRequest {
  jsonrpc: "2.0";
  id: string | number;
  method: "cache/clear";
  params?: CacheClearParams | null;
}
/**
 * The model whose blocks to forget. Without ``model``: all models, on disk also those that are not loaded.
 */
export interface CacheClearParams {
  model?: string | null;
  /**
   * false: only blocks in memory
   */
  disk?: boolean | null;
}
/**
 * Compute a prefix, and pin it in the cache.
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
   * with messages: whether the template opens an answer, which a prompt with further turns lacks
   */
  add_generation_prompt?: boolean | null;
  priority?: ("critical" | "high" | "normal" | "low") | null;
  /**
   * seconds from the request's arrival, after which it fails with deadline_passed
   */
  deadline_s?: number | null;
  /**
   * whether text of prompt and messages is kept from becoming control tokens
   */
  escape_special?: boolean | null;
}
/**
 * Write the cached part of a conversation to a file.
 */
export interface CacheExportRequest {
  jsonrpc: "2.0";
  id: string | number;
  method: "cache/export";
  params: CacheExportParams;
}
/**
 * A prompt whose cached prefix is written to a file; an existing file is replaced.
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
   * with messages: whether the template opens an answer, which a prompt with further turns lacks
   */
  add_generation_prompt?: boolean | null;
  /**
   * whether text of prompt and messages is kept from becoming control tokens
   */
  escape_special?: boolean | null;
}
/**
 * Read a file of cache/export into the cache.
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
 * Open a chat that is continued by its handle.
 */
export interface SessionOpenRequest {
  jsonrpc: "2.0";
  id: string | number;
  method: "session/open";
  params: SessionOpenParams;
}
/**
 * A new chat with a model, and what all its turns share.
 */
export interface SessionOpenParams {
  model: string;
  /**
   * those that the chat begins with, e.g. the system message
   */
  messages?: Message[] | null;
  tools?:
    | {
        [k: string]: unknown;
      }[]
    | null;
  template_args?: {
    [k: string]: unknown;
  } | null;
  /**
   * close it after this long without use; without it: never
   */
  ttl_s?: number | null;
}
/**
 * Another session that goes on from a turn of this one.
 */
export interface SessionForkRequest {
  jsonrpc: "2.0";
  id: string | number;
  method: "session/fork";
  params: SessionForkParams;
}
/**
 * The turn that the new session continues, by default the latest one.
 */
export interface SessionForkParams {
  session: string;
  at?: string | null;
}
/**
 * Remove all turns behind one.
 */
export interface SessionRollbackRequest {
  jsonrpc: "2.0";
  id: string | number;
  method: "session/rollback";
  params: SessionRollbackParams;
}
/**
 * The turn to go back to. ``dry_run``: only tell what would be removed.
 */
export interface SessionRollbackParams {
  session: string;
  to: string;
  dry_run?: boolean | null;
}
/**
 * The turns of a session.
 */
export interface SessionGetRequest {
  jsonrpc: "2.0";
  id: string | number;
  method: "session/get";
  params: OfSession;
}
export interface OfSession {
  session: string;
}
/**
 * Forget a session.
 */
export interface SessionCloseRequest {
  jsonrpc: "2.0";
  id: string | number;
  method: "session/close";
  params: OfSession;
}
/**
 * Write a session to a file.
 */
export interface SessionExportRequest {
  jsonrpc: "2.0";
  id: string | number;
  method: "session/export";
  params: SessionExportParams;
}
/**
 * A session, and the file that it is written to; an existing file is replaced.
 */
export interface SessionExportParams {
  session: string;
  path: string;
}
/**
 * Open the session that is in a file.
 */
export interface SessionImportRequest {
  jsonrpc: "2.0";
  id: string | number;
  method: "session/import";
  params: SessionImportParams;
}
/**
 * A file of ``session/export``. ``model``: a model of the same vocabulary, instead of the one named in the file.
 */
export interface SessionImportParams {
  path: string;
  model?: string | null;
  /**
   * close it after this long without use; without it: never
   */
  ttl_s?: number | null;
}
/**
 * The models on this machine, with what their files tell.
 */
export interface LocalListRequest {
  jsonrpc: "2.0";
  id: string | number;
  method: "local/list";
  params?: LocalListParams | null;
}
export interface LocalListParams {
  /**
   * this one alone: a hub id, a directory or pocket
   */
  model?: string | null;
  /**
   * folders whose model directories are listed as well
   */
  folders?: string[] | null;
}
/**
 * Delete a model of the hub's cache or of mlx-sidecar's own folder.
 */
export interface LocalDeleteRequest {
  jsonrpc: "2.0";
  id: string | number;
  method: "local/delete";
  params: LocalDeleteParams;
}
export interface LocalDeleteParams {
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
 * More of a stream. Deltas are numbered from 0 without gaps; their texts in order are the final text.
 *
 * So are the reasonings, and the arguments of each call. A delta has more of one of the three.
 */
export interface StreamDelta {
  stream: string | number;
  seq: number;
  /**
   * Unicode code points of the answer's text before this one
   */
  offset: number;
  text: string;
  /**
   * more of the reasoning
   */
  reasoning?: string;
  /**
   * with reasoning: code points of it before this
   */
  reasoning_offset?: number;
  tool_calls?: ToolCallDelta[];
  tokens: number[];
  /**
   * one for each of tokens, if asked for
   */
  logprobs?: Logprob[];
}
/**
 * More of the call with this ``index``: first its ``id`` and ``name``, then fragments of its ``arguments``.
 */
export interface ToolCallDelta {
  index: number;
  id?: string;
  name?: string;
  /**
   * a fragment of JSON text
   */
  arguments?: string;
}
/**
 * A chosen token, and the ``logprobs`` likeliest tokens at its place, likeliest first.
 */
export interface Logprob {
  token: number;
  text: string;
  logprob: number | null;
  top: TokenLogprob[];
}
/**
 * A token, its text alone, and its natural log probability; null is minus infinity.
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
 * The progress of a load.
 */
export interface ProgressNotification {
  jsonrpc: "2.0";
  method: "progress";
  params: ProgressParams;
}
/**
 * The progress of a request with a ``progress`` token.
 */
export interface ProgressParams {
  token: string | number;
  model: string;
  /**
   * downloading, reading, converting, building or another word, to be shown to users
   */
  stage: string;
  done_bytes: number;
  /**
   * absent while it is not known
   */
  total_bytes?: number;
}
/**
 * A line for the host's log.
 */
export interface LogNotification {
  jsonrpc: "2.0";
  method: "log";
  params: LogParams;
}
/**
 * A line for the host's log, sent after ``initialize``; before it, logs go to stderr.
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
   * the reason, with lost and failed
   */
  because?: string;
}
export interface SuccessResponse {
  jsonrpc: "2.0";
  id: string | number | null;
  result: Result;
}
/**
 * The server, its capabilities and its limits. ``backend`` is absent until the first ``engine/state`` has it.
 */
export interface InitializeResult {
  protocol_version: number;
  server: ServerInfo;
  /**
   * an id of this process
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
 * The methods and parameters that this server honours.
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
 * Whether each tier of the prefix cache is switched on.
 */
export interface CacheTiers {
  ram: boolean;
  disk: boolean;
}
/**
 * Limits on messages and open requests.
 */
export interface ServerLimits {
  frame_bytes: number;
  header_bytes: number;
  /**
   * elements of one batch
   */
  batch: number;
  /**
   * depth of arrays and objects
   */
  nesting: number;
  /**
   * commas of one message, outside of strings
   */
  values?: number;
  /**
   * members of all objects of one message
   */
  members?: number;
  /**
   * arrays and objects of one message
   */
  containers?: number;
  /**
   * bytes of requests in work; above it, and for a second request of more than 1 MiB, requests are refused as overloaded
   */
  requests_bytes?: number;
  /**
   * bytes of answers not yet read by the host; above it the sidecar reads no further, and refuses requests as overloaded if a batch's answers are waiting
   */
  answers_bytes?: number;
  /**
   * above it, requests are refused as overloaded
   */
  waiting_requests?: number;
  /**
   * bytes of journals, from which open requests outlive the engine: 4 for each token of their prompts and of the longest answers they ask for; above it, requests are refused as out_of_memory
   */
  journal_bytes: number;
  /**
   * open sessions; above it, others are refused as overloaded
   */
  sessions?: number;
  /**
   * bytes of all sessions: 4 for each token, and their messages as JSON; above it, requests that would add to them are refused as overloaded
   */
  sessions_bytes?: number;
}
/**
 * A result without members.
 */
export interface EmptyResult {}
/**
 * The card of the model, and the seconds that loading took: 0 if it was resident.
 */
export interface LoadResult {
  model: string;
  state: "loading" | "ready";
  path: string;
  pinned: boolean;
  /**
   * number of running generations
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
   * library and number format of its arithmetic
   */
  policy?: string;
  /**
   * how sequences that run together are computed: all tokens in one pass, by native code or by mlx, merged while they decode, or each by itself; it is the first of these that gives the same logits as a sequence alone
   */
  forward?: "native" | "flat" | "merged" | "row_by_row";
  /**
   * why native code does not compute it, on a backend that has such code
   */
  not_native?: string;
  /**
   * how it writes tool calls, by its chat template; absent if that does not tell
   */
  tool_format?: string;
  /**
   * whether reasoning is looked for in its answers, by its chat template
   */
  reasoning?: boolean;
  /**
   * whether it continues prompts
   */
  generates?: boolean;
  embedding?: EmbeddingCard;
  /**
   * whether it scores documents by a query
   */
  reranks?: boolean;
  load_s: number;
}
/**
 * How a model embeds texts: numbers of a vector, tokens of a text at most, and what its files say.
 */
export interface EmbeddingCard {
  dimensions: number;
  max_tokens: number;
  /**
   * absent if no file says: a request has to say it, then
   */
  pooling?: "mean" | "cls" | "last" | "max";
  normalize: boolean;
  /**
   * names of the prompts in its files; absent without any
   */
  prompts?: string[];
}
export interface UnloadResult {
  freed_bytes: number;
}
export interface ModelsResult {
  models: ModelCard[];
}
/**
 * A model that is resident or loading. Members not known yet are absent.
 */
export interface ModelCard {
  model: string;
  state: "loading" | "ready";
  path: string;
  pinned: boolean;
  /**
   * number of running generations
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
   * library and number format of its arithmetic
   */
  policy?: string;
  /**
   * how sequences that run together are computed: all tokens in one pass, by native code or by mlx, merged while they decode, or each by itself; it is the first of these that gives the same logits as a sequence alone
   */
  forward?: "native" | "flat" | "merged" | "row_by_row";
  /**
   * why native code does not compute it, on a backend that has such code
   */
  not_native?: string;
  /**
   * how it writes tool calls, by its chat template; absent if that does not tell
   */
  tool_format?: string;
  /**
   * whether reasoning is looked for in its answers, by its chat template
   */
  reasoning?: boolean;
  /**
   * whether it continues prompts
   */
  generates?: boolean;
  embedding?: EmbeddingCard;
  /**
   * whether it scores documents by a query
   */
  reranks?: boolean;
}
/**
 * The card of the adapter, and the seconds that loading took: 0 if it was in memory.
 */
export interface AdapterLoadResult {
  model: string;
  adapter: string;
  path: string;
  /**
   * the layout of its files
   */
  format: "mlx-lm" | "peft";
  rank: number;
  /**
   * the factor of its products; of PEFT's files alpha / rank, or alpha / sqrt(rank)
   */
  scale: number;
  /**
   * the modules that it changes, within a layer
   */
  targets: string[];
  /**
   * how many modules it changes, of all layers
   */
  projections: number;
  parameters: number;
  memory_bytes: number;
  /**
   * a name for its content, from both of its files
   */
  digest: string;
  /**
   * whether it is in memory; else it is read when a request names it
   */
  resident: boolean;
  /**
   * number of running generations that use it
   */
  streams: number;
  load_s: number;
}
export interface AdapterUnloadResult {
  freed_bytes: number;
}
export interface AdaptersResult {
  adapters: AdapterCard[];
}
/**
 * A low-rank adapter of a resident model, which requests may name.
 */
export interface AdapterCard {
  model: string;
  adapter: string;
  path: string;
  /**
   * the layout of its files
   */
  format: "mlx-lm" | "peft";
  rank: number;
  /**
   * the factor of its products; of PEFT's files alpha / rank, or alpha / sqrt(rank)
   */
  scale: number;
  /**
   * the modules that it changes, within a layer
   */
  targets: string[];
  /**
   * how many modules it changes, of all layers
   */
  projections: number;
  parameters: number;
  memory_bytes: number;
  /**
   * a name for its content, from both of its files
   */
  digest: string;
  /**
   * whether it is in memory; else it is read when a request names it
   */
  resident: boolean;
  /**
   * number of running generations that use it
   */
  streams: number;
}
/**
 * The result that ends a generation, written after the last delta of its stream.
 */
export interface GenerateResult {
  stream?: string | number;
  /**
   * absent if echo_text is false
   */
  text?: string;
  /**
   * absent if there is none, or if echo_text is false
   */
  reasoning?: string;
  /**
   * the whole calls; absent if there is none
   */
  tool_calls?: ToolCall[];
  /**
   * calls that are not whole; absent if there is none
   */
  incomplete_tool_calls?: IncompleteToolCall[];
  /**
   * why something that began like a call is no call, or not a whole one
   */
  tool_call_error?: string;
  /**
   * absent if echo_text is false
   */
  tokens?: number[];
  /**
   * one for each of tokens, if asked for; absent if echo_text is false
   */
  logprobs?: Logprob[];
  finish_reason: "stop" | "tool_calls" | "length" | "cancelled" | "deadline" | "error" | "repeated";
  /**
   * the stop string that ended the text
   */
  stop_match?: string;
  error?: ErrorObject;
  response_format?: FormResult;
  usage: Usage;
  timing: Timing;
  /**
   * number of the last delta; absent if there was none
   */
  last_seq?: number;
  seed: number;
  cache?: CacheExplanation;
  /**
   * absent if there are none
   */
  warnings?: ResultWarning[];
  /**
   * with session: the turn that was added; absent if no token came, or it was closed or rolled back
   */
  turn?: string;
  /**
   * with session: whether the model's template would have given other prompt tokens
   */
  rendered_differs?: boolean;
  /**
   * of the chat, so many messages behind the system messages, the oldest, were left out; absent if 0
   */
  dropped_messages?: number;
}
/**
 * A whole call. ``arguments`` is the JSON text of one object, whatever the model's own format.
 */
export interface ToolCall {
  id: string;
  name: string;
  arguments: string;
}
/**
 * A call that the answer's end cut off, or whose arguments could not be read on: ``text`` is what the model wrote.
 *
 * ``id`` and ``name`` are absent where the call had not got so far, and ``index`` where no delta told of it.
 */
export interface IncompleteToolCall {
  text: string;
  index?: number;
  id?: string;
  name?: string;
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
 * The data of an error; each kind adds its own members.
 */
export interface ErrorData {
  kind: string;
  retryable: boolean;
  [k: string]: unknown;
}
/**
 * with a response_format other than text
 */
export interface FormResult {
  complete: boolean;
  forced_tokens: number;
  masked_steps: number;
}
/**
 * Counts of tokens. ``cached_tokens`` is the part of ``prompt_tokens`` that needed no prefill, the sum of tiers.
 */
export interface Usage {
  prompt_tokens: number;
  cached_tokens: number;
  cached_by_tier: CachedByTier;
  completion_tokens: number;
  /**
   * those of completion_tokens inside reasoning, without its markers; absent if none is looked for
   */
  reasoning_tokens?: number;
  /**
   * the reason why prompts of this model cannot be cached; absent if they can
   */
  uncached_because?: string;
  speculation?: SpeculationUsage;
}
/**
 * Counts of cached tokens that were in memory, and that were read from disk for this request.
 */
export interface CachedByTier {
  ram: number;
  disk: number;
}
/**
 * absent if none was asked for and nothing was proposed
 */
export interface SpeculationUsage {
  proposed: number;
  accepted: number;
  passes: number;
}
/**
 * Durations in seconds. One that did not begin is absent: a request cancelled in the queue has only ``queue_s``.
 */
export interface Timing {
  /**
   * until its prefill began, or until its end if it had none
   */
  queue_s: number;
  /**
   * loading the model, if this request had to
   */
  load_s?: number;
  /**
   * from the begin of its prefill to its first token
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
   * tokens in common with the nearest cached prompt, and so the number of the first that differs
   */
  known_tokens: number;
  because: "uncacheable" | "nothing_known" | "all_known" | "new_text" | "date" | "key_order" | "changed_text";
  where?: PromptPlace;
  text_before?: string;
  /**
   * this prompt's text from there on
   */
  text_here?: string;
  /**
   * the cached prompt's text from there on; absent if it ended there
   */
  text_known?: string;
  /**
   * the explanation as a sentence
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
   * number of the message, in a chat
   */
  message?: number;
  /**
   * role of that message
   */
  role?: string;
}
/**
 * A warning about a request that was carried out all the same.
 *
 * Of a chat: ``content_left_out``, ``name_left_out``, ``tool_calls_left_out``, ``tools_left_out`` (the model's chat
 * template does not write them), ``role_unknown`` (it writes the message like one of any unknown role),
 * ``tool_calls_not_parsed`` (it does not tell how calls are written: they stay in the text). Of a session:
 * ``turns_rendered`` (the prompt is the template's rendering of the whole chat, because its text behind the last
 * answer could not be told apart).
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
   * absent if there are none
   */
  warnings?: ResultWarning[];
}
/**
 * Whether every token of the two models has the same id and the same bytes.
 */
export interface CheckDraftResult {
  compatible: boolean;
  /**
   * the first difference; absent if there is none
   */
  because?: string;
}
/**
 * A vector for each text, in order: lists of numbers, or base64 of float32, little-endian.
 */
export interface EmbedResult {
  embeddings: (number[] | string)[];
  pooling: "mean" | "cls" | "last" | "max";
  dimensions: number;
  normalized: boolean;
  /**
   * the text that was put before each input; absent if none was
   */
  prefix?: string;
  /**
   * numbers of the texts that were cut; absent if none was
   */
  truncated?: number[];
  usage: VectorUsage;
}
/**
 * Tokens of all texts, special ones included, and those of them that were in the prefix cache.
 */
export interface VectorUsage {
  prompt_tokens: number;
  cached_tokens: number;
}
/**
 * The documents, best first; equally good ones in the order of the request.
 */
export interface RerankResult {
  results: RerankItem[];
  /**
   * numbers of the documents that were cut; absent if none was
   */
  truncated?: number[];
  usage: VectorUsage;
}
/**
 * A document, by its number in the request, and its score from 0 to 1.
 */
export interface RerankItem {
  index: number;
  relevance_score: number;
}
/**
 * The state of the stream. ``finish_reason`` is absent until it has ended.
 */
export interface StreamSubscribeResult {
  stream: string | number;
  /**
   * number of the last delta; absent if there was none
   */
  last_seq?: number;
  finish_reason?: "stop" | "tool_calls" | "length" | "cancelled" | "deadline" | "error" | "repeated";
}
/**
 * The contents of the prefix cache. Counters are totals since the engine started; new names may be added.
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
 * The prefix cache in memory, in bytes and blocks. ``limit_bytes`` is 0 if it is switched off.
 */
export interface MemoryTier {
  limit_bytes: number;
  used_bytes: number;
  /**
   * the part of used_bytes that is not evicted
   */
  pinned_bytes: number;
  blocks: number;
}
/**
 * The prefix cache on disk. ``used_bytes`` and ``files`` count the whole directory, ``blocks`` resident models.
 */
export interface DiskTier {
  state: "off" | "on" | "failed";
  /**
   * the reason of state failed
   */
  because?: string;
  path?: string;
  limit_bytes?: number;
  used_bytes: number;
  /**
   * bytes still to be written
   */
  pending_bytes: number;
  blocks: number;
  files: number;
}
/**
 * The index of the prefix cache: the number of blocks known in either tier, and its own size in bytes.
 */
export interface PrefixIndex {
  nodes: number;
  nbytes: number;
}
/**
 * A model in the prefix cache. Models share cached blocks if their ``identity`` is the same.
 *
 * It names weights, adapter and arithmetic.
 */
export interface CachedModel {
  model: string;
  cacheable: boolean;
  identity?: string;
  /**
   * the reason if it is not cacheable
   */
  because?: string;
}
/**
 * The bytes that were freed.
 */
export interface CacheClearResult {
  ram_bytes: number;
  disk_bytes: number;
}
/**
 * Counts of tokens: of the prefix, of its part that was cached before, and of its part that is now pinned.
 */
export interface CacheWarmResult {
  tokens: number;
  cached_tokens: number;
  pinned_tokens: number;
  prefill_s: number;
}
/**
 * The tokens of the conversation, and the size of the file in bytes.
 */
export interface CacheFileResult {
  tokens: number;
  nbytes: number;
}
/**
 * A session, and the turn that its next request continues.
 */
export interface SessionResult {
  session: string;
  turn: string;
}
/**
 * The turns behind it, which are removed, or with ``dry_run`` would be.
 */
export interface SessionRollbackResult {
  session: string;
  turn: string;
  removed: string[];
}
/**
 * A session with all its turns, parents before children. ``nbytes`` is the memory that its own turns take.
 */
export interface SessionGetResult {
  session: string;
  turn: string;
  model: string;
  tools?: {
    [k: string]: unknown;
  }[];
  template_args?: {
    [k: string]: unknown;
  };
  ttl_s?: number;
  nbytes: number;
  turns: SessionTurn[];
}
/**
 * One turn: the messages of its request, and the answer. The first turn of a session has no answer.
 */
export interface SessionTurn {
  turn: string;
  parent?: string;
  messages: {
    [k: string]: unknown;
  }[];
  /**
   * the assistant message of its answer
   */
  answer?: {
    [k: string]: unknown;
  };
  finish_reason?: "stop" | "tool_calls" | "length" | "cancelled" | "deadline" | "error" | "repeated";
  /**
   * 0 in the first turn of a session
   */
  prompt_tokens: number;
  completion_tokens: number;
  /**
   * of the chat until here, those that its prompt lacks; absent if there are none
   */
  dropped_messages?: number;
}
/**
 * The turns of the session, and the size of the file in bytes.
 */
export interface SessionFileResult {
  session: string;
  turn: string;
  turns: number;
  nbytes: number;
}
export interface LocalListResult {
  models: LocalModel[];
}
/**
 * A model on this machine. Members that its files do not tell are absent.
 *
 * ``source``: ``embedded`` in the package, in the cache of the ``hub``, ``imported`` by mlx-sidecar into its own
 * folder, or in another ``folder``. Those of ``hub`` and ``imported`` can be deleted.
 */
export interface LocalModel {
  /**
   * the name that load takes
   */
  name: string;
  source: "embedded" | "hub" | "imported" | "folder";
  path: string;
  /**
   * bytes on disk; of a hub model those of all its revisions
   */
  size_bytes: number;
  /**
   * whether the engine holds it
   */
  loaded: boolean;
  architecture?: string;
  parameters?: number;
  /**
   * number format of most of the weights as stored
   */
  dtype?: string;
  quantization?: string;
  context_length?: number;
  /**
   * the commit, of a hub model
   */
  revision?: string;
  /**
   * the reason why load would refuse it, from config and headers
   */
  problem?: string;
}
export interface LocalDeleteResult {
  freed_bytes: number;
}
/**
 * The state of the sidecar. New counters, gauges and histograms may be added.
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
 * The engine process; members that it has not reported yet are absent.
 */
export interface EngineInfo {
  state: "starting" | "ready" | "lost" | "failed" | "stopped";
  restarts: number;
  pid?: number;
  backend?: string;
  device?: string;
  numerics?: "fast" | "exact";
  /**
   * library and number format of arithmetic, unless a model's card says otherwise
   */
  policy?: string;
  versions?: {
    [k: string]: string;
  };
}
/**
 * The health of the engine, and the age of the device's last completed operation; absent before the first.
 */
export interface Health {
  status: "ok" | "starting" | "degraded" | "failed";
  /**
   * whether a token could be decoded now: a model is resident and the engine keeps up
   */
  ready: boolean;
  /**
   * number of times that the engine process was started again
   */
  restarts: number;
  last_device_operation_s?: number;
  /**
   * why status is not ok, or how the engine last ended
   */
  reason?: string;
}
/**
 * Numbers of requests. New ones are refused when ``limit`` requests are waiting.
 */
export interface Queue {
  waiting: number;
  running: number;
  limit?: number;
}
/**
 * Memory in bytes. ``limit_bytes`` is the engine's limit.
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
   * notifications of the sidecar, for which OpenRPC has no member
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
export interface TooManyValues {
  code: -32600;
  message: string;
  data: {
    kind: "too_many_values";
    retryable: false;
    what: "values" | "members" | "containers";
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
     * Items: One field at fault. ``loc`` is its path of names and list indices.
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
export interface AdapterLoadFailed {
  code: -32001;
  message: string;
  data: {
    kind: "adapter_load_failed";
    retryable: false;
    adapter: string;
    because: string;
  };
}
export interface AdapterUnsupported {
  code: -32001;
  message: string;
  data: {
    kind: "adapter_unsupported";
    retryable: false;
    adapter: string;
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
    field?: string;
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
export interface ConstraintUnsatisfiable {
  code: -32004;
  message: string;
  data: {
    kind: "constraint_unsatisfiable";
    retryable: false;
    position: number;
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
    unit?: "bytes" | "sessions";
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
export interface NonFiniteLogits {
  code: -32006;
  message: string;
  data: {
    kind: "non_finite_logits";
    retryable: false;
    model: string;
    position: number;
  };
}
export interface NonFiniteEmbedding {
  code: -32006;
  message: string;
  data: {
    kind: "non_finite_embedding";
    retryable: false;
    model: string;
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
export interface UnknownSession {
  code: -32007;
  message: string;
  data: {
    kind: "unknown_session";
    retryable: false;
    session: string;
  };
}
export interface UnknownAdapter {
  code: -32007;
  message: string;
  data: {
    kind: "unknown_adapter";
    retryable: false;
    adapter: string;
    model: string;
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
