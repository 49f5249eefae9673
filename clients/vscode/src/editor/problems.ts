import * as vscode from "vscode";
import { adviceFor, type Remedy } from "../core/advice.js";

/** Shows errors with what can be done about them. */
export class Problems {
  readonly #log: vscode.LogOutputChannel;
  readonly #act: (remedy: Remedy) => Promise<void>;
  #told: string | undefined;

  constructor(log: vscode.LogOutputChannel, act: (remedy: Remedy) => Promise<void>) {
    this.#log = log;
    this.#act = act;
  }

  /** `once`: the same error is not shown again before something has succeeded, as it would be with each key. */
  show(error: unknown, { once = false } = {}): void {
    const { kind, message, remedies } = adviceFor(error);
    if (kind === "sidecar_closed") return; // stopped by the user
    this.#log.error(`${kind}: ${message}`);
    if (once && this.#told === message) return;
    this.#told = message;
    void this.#ask(message, remedies);
  }

  /** Something has succeeded. */
  solved(): void {
    this.#told = undefined;
  }

  async #ask(message: string, remedies: readonly Remedy[]): Promise<void> {
    const label = await vscode.window.showErrorMessage(`mlx-sidecar: ${message}`, ...remedies.map(({ label }) => label));
    const remedy = remedies.find((one) => one.label === label);
    if (remedy === undefined) return;
    try {
      await this.#act(remedy);
    } catch (error) {
      this.show(error);
    }
  }
}
