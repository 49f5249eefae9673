/** A stand-in for the part of the editor's interface that the extension uses, typed against the real one. */
import { EventEmitter } from "node:events";
import Module from "node:module";
import { fileURLToPath } from "node:url";
import type * as vscode from "vscode";
import type { ToView } from "../src/core/view-messages.js";

export class Position {
  constructor(
    readonly line: number,
    readonly character: number,
  ) {}
  isEqual(other: Position): boolean {
    return this.line === other.line && this.character === other.character;
  }
}

export class Range {
  constructor(
    readonly start: Position,
    readonly end: Position,
  ) {}
  get isEmpty(): boolean {
    return this.start.isEqual(this.end);
  }
}

class Uri {
  constructor(
    readonly scheme: string,
    readonly path: string,
  ) {}
  static joinPath(base: Uri, ...parts: string[]): Uri {
    return new Uri(base.scheme, [base.path.replace(/\/$/, ""), ...parts].join("/"));
  }
  get fsPath(): string {
    return this.path;
  }
  toString(): string {
    return `${this.scheme}://${this.path}`;
  }
}

class InlineCompletionItem {
  constructor(
    readonly insertText: string,
    readonly range: Range,
  ) {}
}

/** A document whose text can be changed, as typing does. */
export class Document {
  version = 1;
  readonly uri: Uri;
  readonly languageId = "python";
  constructor(
    public text: string,
    scheme = "file",
    path = "/project/a.py",
  ) {
    this.uri = new Uri(scheme, path);
  }
  get lineCount(): number {
    return this.text.split("\n").length;
  }
  lineAt(line: number) {
    const text = this.text.split("\n")[line] ?? "";
    return { range: new Range(new Position(line, 0), new Position(line, text.length)) };
  }
  getText(range?: Range): string {
    return range === undefined ? this.text : this.text.slice(this.offsetAt(range.start), this.offsetAt(range.end));
  }
  offsetAt({ line, character }: Position): number {
    const before = this.text.split("\n").slice(0, line);
    return before.reduce((sum, one) => sum + one.length + 1, 0) + character;
  }
  positionAt(offset: number): Position {
    const before = this.text.slice(0, Math.min(offset, this.text.length)).split("\n");
    return new Position(before.length - 1, before.at(-1)?.length ?? 0);
  }
  type(text: string): void {
    this.text += text;
    this.version += 1;
  }
}

export class TextEditor {
  selection: Range;
  viewColumn = 1;
  constructor(readonly document: Document) {
    const end = document.positionAt(document.text.length);
    this.selection = new Range(end, end);
  }
  select(start: Position, end: Position): void {
    this.selection = new Range(start, end);
  }
  async edit(change: (builder: { replace(range: Range, text: string): void }) => void): Promise<boolean> {
    change({
      replace: ({ start, end }, text) => {
        const { document } = this;
        document.text = document.text.slice(0, document.offsetAt(start)) + text + document.text.slice(document.offsetAt(end));
        document.version += 1;
      },
    });
    return true;
  }
}

/** A view of a page: what the extension told the page, and what the page says to the extension. */
export class WebviewView {
  visible = true;
  readonly told: ToView[] = [];
  readonly #events = new EventEmitter();
  readonly webview = {
    cspSource: "https://own",
    html: "",
    options: {},
    asWebviewUri: (uri: Uri) => uri,
    onDidReceiveMessage: (listener: (message: unknown) => void) => this.#events.on("message", listener),
    postMessage: async (message: ToView) => {
      this.told.push(structuredClone(message));
      this.#events.emit("told");
      return true;
    },
  };
  onDidDispose(listener: () => void): void {
    this.#events.on("dispose", listener);
  }
  say(message: unknown): void {
    this.#events.emit("message", message);
  }
  /** Settles when the page has been told something that fits. */
  async heard(fits: (message: ToView) => boolean): Promise<ToView> {
    for (;;) {
      const found = this.told.find(fits);
      if (found !== undefined) return found;
      await new Promise((resolve) => this.#events.once("told", resolve));
    }
  }
}

/** Members that the real thing has; of what kind they are is a matter of the tests. */
type Members<Real> = Partial<Record<keyof Real, unknown>>;

const disposable = () => ({ dispose: () => {} });

/** The editor of one window. */
export class Editor {
  readonly settings = new Map<string, unknown>();
  readonly commands = new Map<string, (argument?: unknown) => unknown>();
  readonly executed: unknown[][] = [];
  readonly errors: { message: string; buttons: string[] }[] = [];
  readonly informed: string[] = [];
  readonly progress: { message?: string; increment?: number }[] = [];
  readonly items: { text: string; tooltip: string }[] = [];
  readonly logged: string[] = [];
  /** What the user chooses next in a list, a dialog, an input or a message: a part of its label. */
  readonly choices: string[] = [];
  clipboard = "";
  activeTextEditor: TextEditor | undefined;
  provider!: vscode.InlineCompletionItemProvider;
  viewProvider!: vscode.WebviewViewProvider;
  readonly #events = new EventEmitter();

  get statusText(): string {
    return this.items.at(-1)?.text ?? "";
  }

  /** Settles when the condition holds; it is looked at whenever the extension has shown something. */
  async until(holds: () => boolean): Promise<void> {
    while (!holds()) await new Promise((resolve) => this.#events.once("shown", resolve));
  }

  change(name: string, value: unknown): void {
    this.settings.set(name, value);
    this.#events.emit("configuration", { affectsConfiguration: (section: string) => name.startsWith(section) });
  }

  async run(name: string, argument?: unknown): Promise<void> {
    await this.commands.get(`mlxSidecar.${name}`)?.(argument);
  }

  /** What is suggested at the end of a document. */
  async suggest(document: Document, more: Partial<vscode.InlineCompletionContext> = {}, token = neverCancelled()): Promise<InlineCompletionItem[] | undefined> {
    const context = { triggerKind: 1, selectedCompletionInfo: undefined, ...more };
    const position = document.positionAt(document.text.length);
    const items = this.provider.provideInlineCompletionItems(document as never, position as never, context, token as never);
    return (await items) as unknown as InlineCompletionItem[] | undefined;
  }

  /** The view of the chat, when it is shown. */
  showChat(): WebviewView {
    const view = new WebviewView();
    void this.viewProvider.resolveWebviewView(view as never, {} as never, neverCancelled() as never);
    return view;
  }

  /** Lets `require("vscode")` give this editor, and loads the extension at a path. */
  load(extension: string): { activate(context: object): void; deactivate(): Promise<void> } {
    const loader = Module as unknown as { _load(request: string, ...more: unknown[]): unknown };
    const real = loader._load;
    loader._load = (request, ...more) => (request === "vscode" ? this.api() : real.call(Module, request, ...more));
    try {
      const require = Module.createRequire(import.meta.url);
      delete require.cache[extension];
      return require(extension) as ReturnType<Editor["load"]>;
    } finally {
      loader._load = real;
    }
  }

  #shown(): void {
    this.#events.emit("shown");
  }

  #choose<Item>(items: readonly Item[], label: (item: Item) => string): Item | undefined {
    const wanted = this.choices.shift();
    return wanted === undefined ? undefined : items.find((item) => label(item).includes(wanted));
  }

  #section(section: string) {
    return {
      get: (name: string, fallback?: unknown) => this.settings.get(`${section}.${name}`) ?? fallback,
      inspect: () => ({}),
      update: async (name: string, value: unknown) => this.change(`${section}.${name}`, value),
    };
  }

  #item() {
    const item = { name: "", command: "", backgroundColor: undefined as unknown, show: () => {}, dispose: () => {} };
    const record = { text: "", tooltip: "" };
    const shown = () => this.#shown();
    this.items.push(record);
    return Object.defineProperties(item, {
      text: { set: (text: string) => ((record.text = text), shown()) },
      tooltip: { set: (tooltip: string) => (record.tooltip = tooltip) },
    });
  }

  /** The members of the module `vscode`. */
  api() {
    const log = (message: string) => this.logged.push(message);
    const ask = (message: string, ...buttons: unknown[]) => {
      const labels = buttons.filter((button) => typeof button === "string");
      this.errors.push({ message, buttons: labels });
      this.#shown();
      return Promise.resolve(this.#choose(labels, (label) => label));
    };
    return {
      Position,
      Range,
      Uri,
      InlineCompletionItem,
      ThemeColor: class {},
      InlineCompletionTriggerKind: { Invoke: 0, Automatic: 1 },
      StatusBarAlignment: { Left: 1, Right: 2 },
      QuickPickItemKind: { Separator: -1 },
      ProgressLocation: { Notification: 15 },
      ConfigurationTarget: { Global: 1, Workspace: 2 },
      env: { clipboard: { writeText: async (text: string) => void (this.clipboard = text) } },
      commands: {
        registerCommand: (name: string, run: () => unknown) => (this.commands.set(name, run), disposable()),
        executeCommand: async (...words: unknown[]) => (this.executed.push(words), this.commands.get(String(words[0]))?.()),
      },
      languages: {
        registerInlineCompletionItemProvider: (_: unknown, provider: vscode.InlineCompletionItemProvider) => ((this.provider = provider), disposable()),
      },
      workspace: {
        getConfiguration: (section: string) => this.#section(section),
        onDidChangeConfiguration: (listener: (event: unknown) => void) => (this.#events.on("configuration", listener), disposable()),
        asRelativePath: (uri: Uri) => uri.path.split("/").at(-1) ?? "",
      },
      window: this.#window(log, ask),
    } satisfies Members<typeof vscode>;
  }

  #window(log: (message: string) => void, ask: (message: string, ...buttons: unknown[]) => Promise<string | undefined>) {
    const own = this;
    return {
      get activeTextEditor() {
        return own.activeTextEditor;
      },
      createOutputChannel: () => ({ info: log, warn: log, error: log, debug: log, show: () => own.executed.push(["log"]), dispose: () => {} }),
      createStatusBarItem: () => own.#item(),
      registerWebviewViewProvider: (_: string, provider: vscode.WebviewViewProvider) => ((own.viewProvider = provider), disposable()),
      showErrorMessage: ask,
      showWarningMessage: ask,
      showInformationMessage: async (message: string) => void own.informed.push(message),
      showQuickPick: async (items: { label: string }[]) => own.#choose(items, ({ label }) => label),
      showInputBox: async () => own.choices.shift(),
      showOpenDialog: async () => own.choices.splice(0, 1).map((path) => new Uri("file", path)),
      showTextDocument: async () => own.activeTextEditor,
      withProgress: (_: unknown, work: (progress: object, token: object) => Promise<unknown>) =>
        work({ report: (step: { message?: string }) => own.progress.push(step) }, neverCancelled()),
    } satisfies Members<typeof vscode.window>;
  }
}

export function neverCancelled() {
  return { isCancellationRequested: false, onCancellationRequested: disposable };
}

/** A token, and a function that cancels it. */
export function cancellation() {
  const listeners: (() => void)[] = [];
  const token = { isCancellationRequested: false, onCancellationRequested: (listener: () => void) => (listeners.push(listener), disposable()) };
  const cancel = () => {
    token.isCancellationRequested = true;
    for (const listener of listeners) listener();
  };
  return { token, cancel };
}

/** The folder of an extension as its context has it. */
export function contextOf(folder: string) {
  return { extensionUri: new Uri("file", folder), subscriptions: [] as { dispose(): void }[] };
}

/** Where the extension was built; a packaged one is elsewhere. */
export const EXTENSION = process.env["MLX_SIDECAR_EXTENSION"] ?? fileURLToPath(new URL("../..", import.meta.url));
