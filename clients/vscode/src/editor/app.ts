import { setTimeout as pause } from "node:timers/promises";
import type { GenerateResult, LogParams } from "mlx-sidecar";
import * as vscode from "vscode";
import { Completer } from "../core/completer.js";
import { Conversation } from "../core/conversation.js";
import { Engine, type Launch } from "../core/engine.js";
import { Loader } from "../core/loader.js";
import { completionModel, needsRestart, type SettingName, type Settings } from "../core/settings.js";
import { speedOf } from "../core/status.js";
import { CHAT_VIEW, ChatView } from "./chat-view.js";
import { act, registerCommands } from "./commands.js";
import { Configuration } from "./configuration.js";
import { InlineCompletion } from "./inline-completion.js";
import { Problems } from "./problems.js";
import { StatusBar } from "./status-bar.js";

/** The parts of the extension in one window, and how they hear of each other. */
export class App {
  readonly root: vscode.Uri;
  readonly log: vscode.LogOutputChannel;
  readonly problems: Problems;
  readonly configuration: Configuration;
  readonly engine: Engine;
  readonly loader: Loader;
  readonly completer: Completer;
  readonly conversation: Conversation;
  readonly chatView: ChatView;
  readonly #statusBar: StatusBar;
  readonly #running = { completions: 0, answers: 0 };

  constructor(context: vscode.ExtensionContext) {
    this.root = context.extensionUri;
    this.log = vscode.window.createOutputChannel("mlx-sidecar", { log: true });
    this.problems = new Problems(this.log, (remedy) => act(this, remedy));
    this.configuration = new Configuration(
      (names) => void this.#follow(names),
      (error) => this.problems.show(error),
    );
    this.#statusBar = new StatusBar({ engine: "idle", model: this.settings.model, isCompleting: true, running: 0 });
    this.engine = new Engine(launchOf(this.settings), {
      onState: (engine, because) => this.#statusBar.change({ engine, because }),
      onLog: (entry) => this.#write(entry),
    });
    this.loader = new Loader({ onLoading: (_, loading) => this.#statusBar.change({ loading }) });
    this.completer = this.#makeCompleter();
    this.chatView = this.#makeChatView();
    this.conversation = this.#makeConversation();
    this.chatView.attach(this.conversation);
    context.subscriptions.push(this.log, this.configuration, this.#statusBar, ...registerCommands(this), ...this.#register());
    this.configuration.read();
  }

  get settings(): Settings {
    return this.configuration.settings;
  }

  /** Ends the engine, and settles when its processes are gone. */
  async close(): Promise<void> {
    this.completer.cancel();
    this.conversation.stop();
    await this.engine.close();
  }

  #register(): vscode.Disposable[] {
    const provider = new InlineCompletion(this.completer, this.engine, () => this.settings, this.problems);
    return [
      vscode.languages.registerInlineCompletionItemProvider({ pattern: "**" }, provider),
      vscode.window.registerWebviewViewProvider(CHAT_VIEW, this.chatView),
    ];
  }

  #makeCompleter(): Completer {
    return new Completer(this.engine, this.loader, (ms, signal) => pause(ms, undefined, { signal }), {
      onResult: (model, result) => this.#note(model, result),
      onRunning: (completions) => this.#count({ completions }),
    });
  }

  #makeConversation(): Conversation {
    return new Conversation(this.engine, this.loader, () => this.settings, {
      onChange: () => this.chatView.refresh(),
      onDelta: (turn, text, reasoning) => this.chatView.add(turn, text, reasoning),
      onResult: (model, result) => this.#note(model, result),
      onRunning: (answers) => this.#count({ answers }),
    });
  }

  #makeChatView(): ChatView {
    return new ChatView(this.root, () => this.settings, {
      act: (remedy) => act(this, remedy),
      insert: insertAtCursor,
      fail: (error) => this.problems.show(error),
    });
  }

  async #follow(names: ReadonlySet<SettingName>): Promise<void> {
    this.completer.forget();
    this.#statusBar.change({ model: completionModel(this.settings), isCompleting: this.settings["completion.enabled"] });
    this.chatView.refresh();
    if (!needsRestart(names)) return;
    try {
      await this.engine.configure(launchOf(this.settings));
    } catch (error) {
      this.problems.show(error);
    }
  }

  #note(model: string, result: GenerateResult): void {
    this.#statusBar.change({ last: speedOf(model, result) });
  }

  #count(now: Partial<{ completions: number; answers: number }>): void {
    Object.assign(this.#running, now);
    this.#statusBar.change({ running: this.#running.completions + this.#running.answers });
  }

  #write({ level, message, logger }: LogParams): void {
    this.log[level === "warning" ? "warn" : level](logger === undefined ? message : `${logger}: ${message}`);
  }
}

function launchOf(settings: Settings): Launch {
  return { executable: settings.executable, args: settings.arguments };
}

async function insertAtCursor(text: string): Promise<void> {
  const editor = vscode.window.activeTextEditor;
  if (editor === undefined) throw new Error("no editor is open to insert the code in");
  const isDone = await editor.edit((edit) => edit.replace(editor.selection, text));
  if (!isDone) throw new Error("the code could not be inserted: the document is read-only, or changed at the same moment");
  await vscode.window.showTextDocument(editor.document, editor.viewColumn);
}
