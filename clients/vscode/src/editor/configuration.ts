import * as vscode from "vscode";
import { changed, readSettings, type SettingName, type Settings } from "../core/settings.js";

const SECTION = "mlxSidecar";

/** The settings as they are now. A change that does not fit is told, and the settings before it stay. */
export class Configuration implements vscode.Disposable {
  readonly #onChange: (names: ReadonlySet<SettingName>) => void;
  readonly #onError: (error: unknown) => void;
  readonly #listening: vscode.Disposable;
  #settings: Settings = readSettings(() => undefined);

  constructor(onChange: (names: ReadonlySet<SettingName>) => void, onError: (error: unknown) => void) {
    this.#onChange = onChange;
    this.#onError = onError;
    this.#listening = vscode.workspace.onDidChangeConfiguration((event) => {
      if (event.affectsConfiguration(SECTION)) this.read();
    });
  }

  get settings(): Settings {
    return this.#settings;
  }

  /** Reads them, and tells which have changed. */
  read(): void {
    const section = vscode.workspace.getConfiguration(SECTION);
    try {
      const before = this.#settings;
      this.#settings = readSettings((name) => section.get(name));
      const names = changed(before, this.#settings);
      if (names.size > 0) this.#onChange(names);
    } catch (error) {
      this.#onError(error);
    }
  }

  /** Writes a setting where it is set now, for this workspace or else for the user. */
  async write(name: SettingName, value: unknown): Promise<void> {
    const section = vscode.workspace.getConfiguration(SECTION);
    const isOfWorkspace = section.inspect(name)?.workspaceValue !== undefined;
    await section.update(name, value, isOfWorkspace ? vscode.ConfigurationTarget.Workspace : vscode.ConfigurationTarget.Global);
  }

  dispose(): void {
    this.#listening.dispose();
  }
}
