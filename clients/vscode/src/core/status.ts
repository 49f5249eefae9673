import type { GenerateResult, ProgressParams } from "mlx-sidecar";
import type { EngineState } from "./engine.js";
import { sized } from "./models.js";

/** All that the status bar tells of. */
export interface Status {
  readonly engine: EngineState;
  /** Why the engine was lost or did not start. */
  readonly because?: string | undefined;
  readonly model: string;
  readonly isCompleting: boolean;
  /** Generations that run. */
  readonly running: number;
  readonly loading?: ProgressParams | undefined;
  readonly last?: Speed | undefined;
}

export interface Speed {
  readonly model: string;
  readonly tokens: number;
  /** Undefined where one token came, or the time was too short to measure. */
  readonly tokensPerSecond: number | undefined;
  readonly promptTokens: number;
  readonly cachedTokens: number;
}

/** How it is shown: `icon` is the name of a codicon. */
export interface StatusView {
  readonly text: string;
  readonly icon: string;
  readonly severity: "none" | "warning" | "error";
  readonly tooltip: readonly string[];
}

const ENGINE: Record<EngineState, { icon: string; severity: StatusView["severity"]; words: string }> = {
  idle: { icon: "circle-outline", severity: "none", words: "starts with the first request" },
  starting: { icon: "loading~spin", severity: "none", words: "starting" },
  ready: { icon: "sparkle", severity: "none", words: "ready" },
  recovering: { icon: "sync~spin", severity: "warning", words: "was lost, another one is starting" },
  failed: { icon: "error", severity: "error", words: "failed" },
  stopped: { icon: "circle-slash", severity: "none", words: "stopped" },
};

export function viewOf(status: Status): StatusView {
  const { icon, severity, words } = ENGINE[status.engine];
  const shown = status.engine === "ready" && (status.running > 0 || status.loading) ? "loading~spin" : icon;
  const text = [shortName(status.model), stateWords(status), speedWords(status)].filter((part) => part !== undefined).join(" · ");
  return { text, icon: shown, severity, tooltip: [...tooltipOf(status, words)] };
}

function* tooltipOf({ model, isCompleting, because, loading, last }: Status, words: string): Generator<string> {
  yield `Model: ${model}`;
  yield `Engine: ${words}${because === undefined ? "" : ` (${because})`}`;
  yield `Completion while typing: ${isCompleting ? "on" : "off"}`;
  if (loading) yield `${loading.model}: ${progressWords(loading)}`;
  if (last === undefined) return;
  const speed = last.tokensPerSecond === undefined ? "" : `, ${last.tokensPerSecond.toFixed(0)} tokens/s`;
  yield `Last answer: ${last.tokens} tokens${speed}; ${last.cachedTokens} of ${last.promptTokens} prompt tokens were cached`;
}

function stateWords({ engine, loading }: Status): string | undefined {
  if (loading) return progressWords(loading);
  return engine === "ready" || engine === "idle" ? undefined : engine;
}

function speedWords({ engine, loading, last }: Status): string | undefined {
  if (engine !== "ready" || loading || last?.tokensPerSecond === undefined) return undefined;
  return `${last.tokensPerSecond.toFixed(0)} tok/s`;
}

const NAME_CHARACTERS = 32;

/** The last part of a path or hub id, cut where it is long, as the status bar has little room. */
function shortName(model: string): string {
  const name = model.replace(/[/\\]+$/, "").split(/[/\\]/).at(-1) || model;
  return name.length > NAME_CHARACTERS ? `${name.slice(0, NAME_CHARACTERS - 1)}…` : name;
}

/** How far a load is, for people: `downloading 1.2 GB of 3.0 GB, 40 %`. */
export function progressWords({ stage, done_bytes, total_bytes }: ProgressParams): string {
  if (!total_bytes) return done_bytes > 0 ? `${stage} ${sized(done_bytes)}` : stage;
  return `${stage} ${sized(done_bytes)} of ${sized(total_bytes)}, ${Math.floor(percentage({ done_bytes, total_bytes }))} %`;
}

/** From 0 to 100; 0 while the whole is not known. */
export function percentage({ done_bytes, total_bytes }: Pick<ProgressParams, "done_bytes" | "total_bytes">): number {
  return total_bytes ? Math.min(100, (100 * done_bytes) / total_bytes) : 0;
}

/** How fast an answer came. */
export function speedOf(model: string, { usage, timing }: Pick<GenerateResult, "usage" | "timing">): Speed {
  const seconds = timing.decode_s ?? 0;
  return {
    model,
    tokens: usage.completion_tokens,
    // The time to decode begins with the first token, so it is that of all but one.
    tokensPerSecond: seconds > 0 && usage.completion_tokens > 1 ? (usage.completion_tokens - 1) / seconds : undefined,
    promptTokens: usage.prompt_tokens,
    cachedTokens: usage.cached_tokens,
  };
}
