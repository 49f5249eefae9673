import * as vscode from "vscode";
import { ModelInUse } from "mlx-sidecar";
import type { Remedy } from "../core/advice.js";
import { sized } from "../core/models.js";
import { explanation, fenced } from "../core/quote.js";
import { chatModel, completionModel, type SettingName } from "../core/settings.js";
import { percentage, progressWords } from "../core/status.js";
import type { App } from "./app.js";
import { askForName, pickLoaded, pickModel } from "./model-picker.js";
import { signalOf } from "./signals.js";

type Command = (app: App, argument?: unknown) => unknown;

/** The commands by their names behind `mlxSidecar.`; package.json has their titles. */
export const COMMANDS: Readonly<Record<string, Command>> = {
  start: (app) => app.engine.sidecar(),
  stop: (app) => app.engine.stop(),
  restart: (app) => app.engine.restart(),
  chooseModel: (app) => choose(app, "model", app.settings.model),
  chooseCompletionModel: (app) => choose(app, "completion.model", completionModel(app.settings)),
  chooseChatModel: (app) => choose(app, "chat.model", chatModel(app.settings)),
  loadModel: (app, model) => load(app, model),
  unloadModel: unload,
  showLog: (app) => app.log.show(),
  openChat: (app) => app.chatView.open(),
  newChat: newChat,
  stopAnswer: (app) => app.conversation.stop(),
  explainSelection: explain,
  askAboutSelection: askAbout,
  toggleCompletion: (app) => app.configuration.write("completion.enabled", !app.settings["completion.enabled"]),
  complete: () => vscode.commands.executeCommand("editor.action.inlineSuggest.trigger"),
  showMenu: showMenu,
};

/** Registers them; an error of one is shown. */
export function registerCommands(app: App): vscode.Disposable[] {
  return Object.entries(COMMANDS).map(([name, command]) =>
    vscode.commands.registerCommand(`mlxSidecar.${name}`, async (argument?: unknown) => {
      try {
        await command(app, argument);
      } catch (error) {
        app.problems.show(error);
      }
    }),
  );
}

/** Does what a person chose to do about an error. */
export async function act(app: App, { action, model }: Remedy): Promise<void> {
  switch (action) {
    case "install":
      await vscode.commands.executeCommand("markdown.showPreview", vscode.Uri.joinPath(app.root, "media", "install.md"));
      return;
    case "chooseExecutable":
      return chooseExecutable(app);
    case "download":
      return load(app, model);
    case "chooseModel":
      return choose(app, "model", app.settings.model);
    case "restart":
      return app.engine.restart();
    case "showLog":
      return app.log.show();
    case "settings":
      await vscode.commands.executeCommand("workbench.action.openSettings", "mlxSidecar");
      return;
    case "newChat":
      return newChat(app);
    default:
      throw new TypeError(`action: ${String(action)} is nothing that can be done about an error`);
  }
}

async function choose(app: App, setting: SettingName, current: string): Promise<void> {
  const model = await pickModel(await app.engine.sidecar(), "Choose a model", current);
  if (model !== undefined) await app.configuration.write(setting, model);
}

async function chooseExecutable(app: App): Promise<void> {
  const files = await vscode.window.showOpenDialog({ title: "The mlx-sidecar executable", openLabel: "Use It" });
  const path = files?.[0]?.fsPath;
  if (path !== undefined) await app.configuration.write("executable", path);
}

async function load(app: App, named: unknown): Promise<void> {
  const model = typeof named === "string" && named !== "" ? named : await askForName("Load a model");
  if (model === undefined) return;
  const options = { location: vscode.ProgressLocation.Notification, title: `Loading ${model}`, cancellable: true };
  await vscode.window.withProgress(options, async (progress, token) => {
    const signal = signalOf(token);
    let shown = 0;
    const sidecar = await app.engine.sidecar();
    try {
      const card = await app.loader.load(sidecar, model, (now) => {
        const whole = percentage(now);
        progress.report({ message: progressWords(now), increment: Math.max(0, whole - shown) });
        shown = Math.max(shown, whole);
      }, { signal });
      app.log.info(`loaded ${model} in ${card.load_s.toFixed(1)} s`);
    } catch (error) {
      if (!signal.aborted) throw error;
    }
  });
}

async function unload(app: App): Promise<void> {
  if (!app.engine.isRunning) return void vscode.window.showInformationMessage("mlx-sidecar: the engine does not run.");
  const sidecar = await app.engine.sidecar();
  const model = await pickLoaded(sidecar, "Unload a model");
  if (model === undefined) return;
  const freed = await unloadPatiently(app, model);
  if (freed !== undefined) void vscode.window.showInformationMessage(`mlx-sidecar: ${model} is unloaded, ${sized(freed)} are free again.`);
}

async function unloadPatiently(app: App, model: string): Promise<number | undefined> {
  const sidecar = await app.engine.sidecar();
  try {
    return await app.loader.unload(sidecar, model);
  } catch (error) {
    if (!(error instanceof ModelInUse)) throw error;
    const anyway = "Unload Anyway";
    const chosen = await vscode.window.showWarningMessage(`${model} is answering. Its answers would end.`, { modal: true }, anyway);
    return chosen === anyway ? app.loader.unload(sidecar, model, true) : undefined;
  }
}

async function newChat(app: App): Promise<void> {
  app.conversation.clear();
  await app.chatView.open();
}

function selectedCode(): { code: string; language: string; place: string } | undefined {
  const editor = vscode.window.activeTextEditor;
  if (editor === undefined || editor.selection.isEmpty) {
    void vscode.window.showInformationMessage("mlx-sidecar: select some code first.");
    return undefined;
  }
  const { document, selection } = editor;
  const place = `${vscode.workspace.asRelativePath(document.uri)}, lines ${selection.start.line + 1} to ${selection.end.line + 1}`;
  return { code: document.getText(selection), language: document.languageId, place };
}

async function explain(app: App): Promise<void> {
  const selected = selectedCode();
  if (selected === undefined) return;
  await app.chatView.open();
  if (app.conversation.isAnswering) return void vscode.window.showInformationMessage("mlx-sidecar: an answer is coming; stop it first.");
  await app.conversation.ask(explanation(selected.code, selected.language, selected.place));
}

async function askAbout(app: App): Promise<void> {
  const selected = selectedCode();
  if (selected !== undefined) await app.chatView.draft(`\n\n${fenced(selected.code, selected.language)}`);
}

async function showMenu(): Promise<void> {
  const all = [
    { label: "$(comment-discussion) Open Chat", command: "openChat" },
    { label: "$(list-selection) Choose Model…", command: "chooseModel" },
    { label: "$(cloud-download) Load a Model…", command: "loadModel" },
    { label: "$(trash) Unload a Model…", command: "unloadModel" },
    { label: "$(symbol-keyword) Completion While Typing, On or Off", command: "toggleCompletion" },
    { label: "$(play) Start Engine", command: "start" },
    { label: "$(debug-restart) Restart Engine", command: "restart" },
    { label: "$(stop-circle) Stop Engine", command: "stop" },
    { label: "$(output) Show Log", command: "showLog" },
    { label: "$(gear) Settings", command: undefined },
  ];
  const picked = await vscode.window.showQuickPick(all, { title: "mlx-sidecar" });
  if (picked === undefined) return;
  if (picked.command === undefined) await vscode.commands.executeCommand("workbench.action.openSettings", "mlxSidecar");
  else await vscode.commands.executeCommand(`mlxSidecar.${picked.command}`);
}
