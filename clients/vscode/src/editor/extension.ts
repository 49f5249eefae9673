import type * as vscode from "vscode";
import { App } from "./app.js";

let app: App | undefined;

export function activate(context: vscode.ExtensionContext): void {
  app = new App(context);
}

/** The editor waits for it, so the engine is gone when the window is. */
export async function deactivate(): Promise<void> {
  await app?.close();
  app = undefined;
}
