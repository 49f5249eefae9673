import * as errors from "./errors.js";
import { ERRORS, type ErrorDataOf, type ErrorKind } from "./generated.js";

/** The class of each kind. The type makes a kind without a class an error of the compiler. */
export const ERROR_CLASSES: { readonly [Kind in ErrorKind]: new (error: errors.WireError) => errors.RpcError<Kind> } = {
  parse_error: errors.ParseError,
  nesting_too_deep: errors.NestingTooDeep,
  invalid_request: errors.InvalidRequest,
  frame_too_large: errors.FrameTooLarge,
  batch_too_long: errors.BatchTooLong,
  too_many_values: errors.TooManyValues,
  method_not_found: errors.MethodNotFound,
  invalid_params: errors.InvalidParams,
  internal_error: errors.InternalError,
  model_not_found: errors.ModelNotFound,
  model_load_failed: errors.ModelLoadFailed,
  model_unsupported: errors.ModelUnsupported,
  adapter_load_failed: errors.AdapterLoadFailed,
  adapter_unsupported: errors.AdapterUnsupported,
  not_initialized: errors.NotInitialized,
  shutting_down: errors.ShuttingDown,
  model_not_loaded: errors.ModelNotLoaded,
  model_in_use: errors.ModelInUse,
  context_too_long: errors.ContextTooLong,
  unsupported_parameter: errors.UnsupportedParameter,
  constraint_unsatisfiable: errors.ConstraintUnsatisfiable,
  overloaded: errors.Overloaded,
  out_of_memory: errors.OutOfMemory,
  deadline_passed: errors.DeadlinePassed,
  engine_lost: errors.EngineLost,
  engine_stalled: errors.EngineStalled,
  poison_request: errors.PoisonRequest,
  non_finite_logits: errors.NonFiniteLogits,
  non_finite_embedding: errors.NonFiniteEmbedding,
  unknown_stream: errors.UnknownStream,
  unknown_session: errors.UnknownSession,
  unknown_adapter: errors.UnknownAdapter,
  duplicate_stream: errors.DuplicateStream,
  duplicate_id: errors.DuplicateId,
  cancelled: errors.Cancelled,
};

/** The error that the `error` member of an answer stands for. Never fails, however strange that is. */
export function errorFrom(wire: errors.WireError): errors.RpcError {
  const kind = (wire.data as { kind?: unknown } | null | undefined)?.kind;
  const Class = typeof kind === "string" && isKnown(kind) ? ERROR_CLASSES[kind] : errors.RpcError;
  return new Class(wire);
}

/** An error of the sidecar's kinds that is found on this side of the pipe. */
export function errorOf<Kind extends ErrorKind>(
  kind: Kind,
  message: string,
  details: Omit<ErrorDataOf[Kind], "kind" | "retryable">,
): errors.RpcError {
  const { code, retryable } = ERRORS[kind];
  return errorFrom({ code, message, data: { kind, retryable, ...details } });
}

function isKnown(kind: string): kind is ErrorKind {
  return Object.hasOwn(ERRORS, kind);
}
