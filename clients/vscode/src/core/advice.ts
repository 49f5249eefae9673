import { ExecutableNotFound, RpcError, SidecarError, type protocol } from "mlx-sidecar";

/** Something that a person can do about an error, with one click. */
export interface Remedy {
  readonly label: string;
  readonly action: "install" | "chooseExecutable" | "download" | "chooseModel" | "restart" | "showLog" | "settings" | "newChat";
  /** The model to download. */
  readonly model?: string;
}

export interface Advice {
  readonly kind: string;
  readonly message: string;
  readonly remedies: readonly Remedy[];
}

const INSTALL: Remedy = { label: "How to Install", action: "install" };
const EXECUTABLE: Remedy = { label: "Choose Executable…", action: "chooseExecutable" };
const RESTART: Remedy = { label: "Restart Engine", action: "restart" };
const LOG: Remedy = { label: "Show Log", action: "showLog" };
const MODEL: Remedy = { label: "Choose Model…", action: "chooseModel" };
const SETTINGS: Remedy = { label: "Open Settings", action: "settings" };
const NEW_CHAT: Remedy = { label: "New Chat", action: "newChat" };

/** A hub id is `owner/name`; a path or a name without an owner cannot be downloaded. */
const HUB_ID = /^[\w.-]+\/[\w.-]+$/;

function missingModel(model: string): Remedy[] {
  const download: Remedy = { label: `Download ${model}`, action: "download", model };
  return HUB_ID.test(model) ? [download, MODEL] : [MODEL];
}

const REMEDIES: Partial<Record<string, (error: SidecarError) => readonly Remedy[]>> = {
  executable_not_found: () => [INSTALL, EXECUTABLE],
  sidecar_closed: () => [RESTART],
  sidecar_lost: () => [RESTART, LOG],
  engine_lost: () => [RESTART, LOG],
  engine_stalled: () => [RESTART, LOG],
  poison_request: () => [LOG],
  model_not_found: (error) => missingModel(dataOf(error).model ?? ""),
  model_not_loaded: (error) => [{ label: "Load It", action: "download", model: dataOf(error).model ?? "" }, MODEL],
  model_load_failed: () => [MODEL, LOG],
  model_unsupported: () => [MODEL],
  out_of_memory: () => [MODEL],
  context_too_long: () => [NEW_CHAT, SETTINGS],
  unsupported_parameter: () => [SETTINGS],
  invalid_params: () => [SETTINGS, LOG],
  invalid_setting: () => [SETTINGS],
};

/** The message of an error for people, and what they can do about it. */
export function adviceFor(error: unknown): Advice {
  const kind = kindOf(error);
  const message = error instanceof Error ? error.message : String(error);
  const remedies = REMEDIES[kind]?.(error as SidecarError) ?? [LOG];
  return { kind, message: `${message.replace(/\s*\n\s*/g, " ")}${hint(error)}`, remedies };
}

function kindOf(error: unknown): string {
  const kind = (error as { kind?: unknown } | undefined)?.kind;
  return typeof kind === "string" ? kind : "unknown";
}

function dataOf(error: SidecarError): { model?: string } {
  return error instanceof RpcError ? (error.data as { model?: string }) : {};
}

function hint(error: unknown): string {
  if (error instanceof ExecutableNotFound) return ". In this editor the setting mlxSidecar.executable says where it is.";
  if (!(error instanceof RpcError)) return "";
  const data = error.data as { retry_after_s?: number; name?: string } & Partial<protocol.ErrorDataOf["context_too_long"]>;
  if (error.kind === "overloaded") return ` Try again in ${Math.ceil(data.retry_after_s ?? 1)} s.`;
  if (error.kind === "unsupported_parameter" && data.name === "escape_special") {
    return " The setting mlxSidecar.escapeSpecialTokens switches that off.";
  }
  return "";
}
