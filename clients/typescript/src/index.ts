export * from "./errors.js";
export type * as protocol from "./generated.js";
export type {
  EngineStateParams,
  ErrorKind,
  GenerateResult,
  LoadParams,
  LoadResult,
  LogParams,
  Message,
  ModelCard,
  ProgressParams,
  StreamDelta,
} from "./generated.js";
export { ERRORS, PROTOCOL_VERSION, VERSION } from "./generated.js";
export { ERROR_CLASSES } from "./kinds.js";
export type { CallOptions, LoadOptions, SpawnOptions } from "./options.js";
export { Cache, type GenerateOptions, Sidecar } from "./sidecar.js";
export { type Answer, Stream } from "./stream.js";
