import * as vscode from "vscode";
import { type Status, viewOf } from "../core/status.js";

const COLOURS = { warning: "statusBarItem.warningBackground", error: "statusBarItem.errorBackground" } as const;

/** The item of the status bar; a click on it shows the commands. */
export class StatusBar implements vscode.Disposable {
  readonly #item = vscode.window.createStatusBarItem("mlxSidecar.status", vscode.StatusBarAlignment.Right, 100);
  #status: Status;

  constructor(status: Status) {
    this.#status = status;
    this.#item.name = "mlx-sidecar";
    this.#item.command = "mlxSidecar.showMenu";
    this.#draw();
    this.#item.show();
  }

  change(part: Partial<Status>): void {
    this.#status = { ...this.#status, ...part };
    this.#draw();
  }

  dispose(): void {
    this.#item.dispose();
  }

  #draw(): void {
    const { text, icon, severity, tooltip } = viewOf(this.#status);
    this.#item.text = `$(${icon}) ${text}`;
    this.#item.tooltip = tooltip.join("\n");
    this.#item.backgroundColor = severity === "none" ? undefined : new vscode.ThemeColor(COLOURS[severity]);
  }
}
