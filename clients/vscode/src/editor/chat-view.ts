import { randomBytes } from "node:crypto";
import * as vscode from "vscode";
import { chatPage } from "../core/chat-page.js";
import type { Conversation, Turn } from "../core/conversation.js";
import { chatModel, type Settings } from "../core/settings.js";
import { type FromView, fromView, type ToView } from "../core/view-messages.js";
import type { Remedy } from "../core/advice.js";

export const CHAT_VIEW = "mlxSidecar.chat";

/** What the page may ask the editor to do. */
export interface ChatActions {
  act(remedy: Remedy): Promise<void>;
  insert(text: string): Promise<void>;
  fail(error: unknown): void;
}

/** The chat in the side bar. The conversation is here; the page only shows it, and may come and go. */
export class ChatView implements vscode.WebviewViewProvider {
  readonly #root: vscode.Uri;
  readonly #settings: () => Settings;
  readonly #actions: ChatActions;
  #conversation: Conversation | undefined;
  #view: vscode.WebviewView | undefined;
  #draft: string | undefined; // for a page that is not there yet

  constructor(root: vscode.Uri, settings: () => Settings, actions: ChatActions) {
    this.#root = root;
    this.#settings = settings;
    this.#actions = actions;
  }

  /** Shows a conversation, and does with it what the page asks for. */
  attach(conversation: Conversation): void {
    this.#conversation = conversation;
  }

  resolveWebviewView(view: vscode.WebviewView): void {
    this.#view = view;
    const media = vscode.Uri.joinPath(this.#root, "media");
    const dist = vscode.Uri.joinPath(this.#root, "dist");
    const { webview } = view;
    webview.options = { enableScripts: true, localResourceRoots: [media, dist] };
    webview.onDidReceiveMessage((message: unknown) => this.#receive(message));
    view.onDidDispose(() => {
      if (this.#view === view) this.#view = undefined;
    });
    webview.html = chatPage({
      cspSource: webview.cspSource,
      script: webview.asWebviewUri(vscode.Uri.joinPath(dist, "chat.js")).toString(),
      style: webview.asWebviewUri(vscode.Uri.joinPath(media, "chat.css")).toString(),
      nonce: randomBytes(16).toString("base64url"),
    });
  }

  /** Shows all of it anew. */
  refresh(): void {
    const conversation = this.#conversation;
    if (conversation === undefined) return;
    const { turns, isAnswering } = conversation;
    void this.#post({ type: "state", state: { turns, isAnswering, model: chatModel(this.#settings()) } });
  }

  /** More of an answer; settles when the page has been told, or at once where no page is. */
  async add(turn: Turn, text: string, reasoning: string): Promise<void> {
    await this.#post({ type: "delta", id: turn.id, text, reasoning });
  }

  async open(): Promise<void> {
    await vscode.commands.executeCommand(`${CHAT_VIEW}.focus`);
  }

  /** Opens the chat with a text to go on with. */
  async draft(text: string): Promise<void> {
    this.#draft = text;
    await this.open();
    if (await this.#post({ type: "draft", text })) this.#draft = undefined;
  }

  // A page that is hidden is not there: it asks for all of it when it is shown again.
  async #post(message: ToView): Promise<boolean> {
    return this.#view?.visible === true && (await this.#view.webview.postMessage(message));
  }

  async #receive(message: unknown): Promise<void> {
    try {
      await this.#obey(fromView(message));
    } catch (error) {
      this.#actions.fail(error);
    }
  }

  async #obey(message: FromView): Promise<void> {
    switch (message.type) {
      case "ready":
        return this.#greet();
      case "send":
        return this.#conversation?.ask(message.text);
      case "stop":
        return this.#conversation?.stop();
      case "retry":
        return this.#conversation?.retry();
      case "copy":
        return vscode.env.clipboard.writeText(message.text);
      case "insert":
        return this.#actions.insert(message.text);
      case "remedy":
        return this.#actions.act(message.remedy);
    }
  }

  #greet(): void {
    this.refresh();
    if (this.#draft !== undefined) void this.#post({ type: "draft", text: this.#draft });
    this.#draft = undefined;
  }
}
