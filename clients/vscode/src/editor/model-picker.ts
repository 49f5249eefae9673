import * as vscode from "vscode";
import type { Sidecar } from "mlx-sidecar";
import { type ModelChoice, modelChoices } from "../core/models.js";

interface ModelItem extends vscode.QuickPickItem {
  readonly model?: string;
  readonly other?: "name" | "folder";
}

/** Lets the user choose a model on this machine, name one of the hub, or open a directory; undefined if they do not. */
export async function pickModel(sidecar: Sidecar, title: string, current: string): Promise<string | undefined> {
  const [local, cards] = await Promise.all([sidecar.localModels(), sidecar.models()]);
  const items: ModelItem[] = [
    ...modelChoices(local, cards).map((choice) => itemOf(choice, current)),
    { label: "Other", kind: vscode.QuickPickItemKind.Separator },
    { label: "$(cloud-download) A hub id…", other: "name" },
    { label: "$(folder) A model directory…", other: "folder" },
  ];
  const picked = await vscode.window.showQuickPick(items, { title, placeHolder: "Models on this machine", matchOnDetail: true });
  if (picked?.other === "name") return askForName(title);
  if (picked?.other === "folder") return askForFolder(title);
  return picked?.model;
}

/** Lets the user choose one of the models that are loaded; undefined if they do not, or there is none. */
export async function pickLoaded(sidecar: Sidecar, title: string): Promise<string | undefined> {
  const cards = await sidecar.models();
  if (cards.length === 0) {
    void vscode.window.showInformationMessage("mlx-sidecar: no model is loaded.");
    return undefined;
  }
  const items = modelChoices([], cards).map((choice) => itemOf(choice, ""));
  return (await vscode.window.showQuickPick(items, { title }))?.model;
}

export function askForName(title: string): Thenable<string | undefined> {
  return vscode.window.showInputBox({
    title,
    prompt: "A hub id such as mlx-community/Qwen2.5-Coder-1.5B-4bit, or a path",
    ignoreFocusOut: true,
    validateInput: (value) => (value.trim() === "" ? "A name is needed." : undefined),
  });
}

async function askForFolder(title: string): Promise<string | undefined> {
  const folders = await vscode.window.showOpenDialog({ title, canSelectFiles: false, canSelectFolders: true, openLabel: "Use This Model" });
  return folders?.[0]?.fsPath;
}

function itemOf({ name, isLoaded, detail }: ModelChoice, current: string): ModelItem {
  const marks = [isLoaded ? "loaded" : "", name === current ? "in use" : ""].filter((mark) => mark !== "");
  return { label: name, description: marks.join(", "), detail, model: name };
}
