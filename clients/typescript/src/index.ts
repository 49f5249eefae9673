export * from "./errors.js";
export type * as protocol from "./generated.js";
export type { StreamEvent } from "./events.js";
export { type Form, type FromSchema, type Parsed, parsed, type Schema } from "./forms.js";
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
  ToolCall,
} from "./generated.js";
export { ERRORS, PROTOCOL_VERSION, VERSION } from "./generated.js";
export { ERROR_CLASSES } from "./kinds.js";
export type { CallOptions, LoadOptions, SpawnOptions } from "./options.js";
export { type RunOptions, type RunParams, runTools, type ToolOutcome, type ToolRun } from "./run-tools.js";
export { Session, type SessionOptions, type TurnOptions } from "./session.js";
export { type AnswerOptions, Cache, type GenerateOptions, type Prompt, Sidecar } from "./sidecar.js";
export { type Answer, Stream } from "./stream.js";
export {
  type AnyTool, Call, type Calls, calls, type PlainTool, Tool, tool, type ToolContext, type ToolDefinition,
} from "./tools.js";
export type { EmbedAllParams } from "./vectors.js";
