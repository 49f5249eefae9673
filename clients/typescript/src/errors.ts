import type { ErrorDataOf, ErrorKind, GenerateResult } from "./generated.js";

/** Anything that this package raises on purpose. `kind` is a stable name to look at; messages are for people. */
export class SidecarError extends Error {
  readonly kind: string;

  constructor(kind: string, message: string, options?: ErrorOptions) {
    super(message, options);
    this.kind = kind;
    this.name = nameOf(kind);
  }
}

/** There is no `mlx-sidecar` to run. The message says where it was looked for and how to install it. */
export class ExecutableNotFound extends SidecarError {
  constructor(tried: string) {
    super(
      "executable_not_found",
      `no mlx-sidecar: ${tried}. docs/install.md in its repository says how to install it; ` +
        "the environment variable MLX_SIDECAR or the option `command` says where it is",
    );
  }
}

/** The sidecar was used after `close`. */
export class SidecarClosed extends SidecarError {
  constructor() {
    super("sidecar_closed", "the sidecar was closed");
  }
}

/** How a process ended: one of both is null. Both are if it could not be started, or was not waited for. */
export interface Exit {
  code: number | null;
  signal: string | null;
}

/** The process ended before it had answered, and the request could not be sent again. */
export class SidecarLost extends SidecarError {
  readonly exit: Exit;
  /** The text of a stream until then. */
  readonly text: string;
  readonly tokens: readonly number[];

  constructor(because: string, exit: Exit = { code: null, signal: null }, text = "", tokens: readonly number[] = []) {
    super("sidecar_lost", because);
    this.exit = exit;
    this.text = text;
    this.tokens = tokens;
  }

  /**
   * The same for one request, with a stack of its own.
   *
   * @param text What its stream had until then.
   * @param tokens The same as tokens.
   */
  anew(text = "", tokens: readonly number[] = []): SidecarLost {
    return new SidecarLost(this.message, this.exit, text, tokens);
  }
}

/** The answer was cut off before it had the form that was asked for, so that there is nothing to parse. */
export class IncompleteForm extends SidecarError {
  readonly finishReason: string;
  /** The text until then. */
  readonly text: string;

  constructor(finishReason: string, text: string) {
    super("incomplete_form", `the answer was cut off before it had its form: finish_reason is ${finishReason}`);
    this.finishReason = finishReason;
    this.text = text;
  }
}

/** Arguments of a call that are not valid under its tool's schema. The message says where. */
export class InvalidArguments extends SidecarError {
  /** The tool's name. */
  readonly tool: string;

  constructor(tool: string, fault: string) {
    super("invalid_arguments", `${tool}: ${fault}`);
    this.tool = tool;
  }
}

/** The `error` member of an answer. */
export interface WireError {
  code: number;
  message: string;
  data?: unknown;
}

/**
 * An error that the sidecar answered. Kinds that this client knows have a class of their own; of others, which a newer
 * sidecar may have, this is the class, and `kind` and `data` are as they were sent.
 */
export class RpcError<Kind extends string = string> extends SidecarError {
  declare readonly kind: Kind;
  readonly code: number;
  /** Whether the same request may succeed later. */
  readonly retryable: boolean;
  readonly data: Kind extends ErrorKind ? ErrorDataOf[Kind] : Record<string, unknown>;
  /** The partial result of a generation that broke off. */
  declare result?: GenerateResult;

  constructor({ code, message, data }: WireError) {
    const details = { ...(data as object | undefined) } as { kind?: unknown; retryable?: unknown };
    super(typeof details.kind === "string" ? details.kind : "unknown", message);
    this.code = code;
    this.retryable = details.retryable === true;
    this.data = details as typeof this.data;
  }
}

export class ParseError extends RpcError<"parse_error"> {}
export class NestingTooDeep extends RpcError<"nesting_too_deep"> {}
export class InvalidRequest extends RpcError<"invalid_request"> {}
export class FrameTooLarge extends RpcError<"frame_too_large"> {}
export class BatchTooLong extends RpcError<"batch_too_long"> {}
export class TooManyValues extends RpcError<"too_many_values"> {}
export class MethodNotFound extends RpcError<"method_not_found"> {}
export class InvalidParams extends RpcError<"invalid_params"> {}
export class InternalError extends RpcError<"internal_error"> {}
export class ModelNotFound extends RpcError<"model_not_found"> {}
export class ModelLoadFailed extends RpcError<"model_load_failed"> {}
export class ModelUnsupported extends RpcError<"model_unsupported"> {}
export class AdapterLoadFailed extends RpcError<"adapter_load_failed"> {}
export class AdapterUnsupported extends RpcError<"adapter_unsupported"> {}
export class NotInitialized extends RpcError<"not_initialized"> {}
export class ShuttingDown extends RpcError<"shutting_down"> {}
export class ModelNotLoaded extends RpcError<"model_not_loaded"> {}
export class ModelInUse extends RpcError<"model_in_use"> {}
export class ContextTooLong extends RpcError<"context_too_long"> {}
export class UnsupportedParameter extends RpcError<"unsupported_parameter"> {}
export class ConstraintUnsatisfiable extends RpcError<"constraint_unsatisfiable"> {}
export class Overloaded extends RpcError<"overloaded"> {}
export class OutOfMemory extends RpcError<"out_of_memory"> {}
export class DeadlinePassed extends RpcError<"deadline_passed"> {}
export class EngineLost extends RpcError<"engine_lost"> {}
export class EngineStalled extends RpcError<"engine_stalled"> {}
export class PoisonRequest extends RpcError<"poison_request"> {}
export class NonFiniteLogits extends RpcError<"non_finite_logits"> {}
export class NonFiniteEmbedding extends RpcError<"non_finite_embedding"> {}
export class UnknownStream extends RpcError<"unknown_stream"> {}
export class UnknownSession extends RpcError<"unknown_session"> {}
export class UnknownAdapter extends RpcError<"unknown_adapter"> {}
export class DuplicateStream extends RpcError<"duplicate_stream"> {}
export class DuplicateId extends RpcError<"duplicate_id"> {}
export class Cancelled extends RpcError<"cancelled"> {}

/** Class names do not outlive every bundler, kinds do. */
function nameOf(kind: string): string {
  return kind.replace(/(?:^|_)([a-z])/g, (_, letter: string) => letter.toUpperCase());
}
