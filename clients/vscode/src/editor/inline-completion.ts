import * as vscode from "vscode";
import type { Completer, Place } from "../core/completer.js";
import type { Engine } from "../core/engine.js";
import type { Settings } from "../core/settings.js";
import type { Source } from "../core/surroundings.js";
import type { Problems } from "./problems.js";
import { signalOf } from "./signals.js";

const NO_TEXT_OF_A_USER = new Set(["output", "debug", "vscode-terminal"]);

/** Gives the editor what the completer suggests, while it is still true. */
export class InlineCompletion implements vscode.InlineCompletionItemProvider {
  readonly #completer: Completer;
  readonly #engine: Engine;
  readonly #settings: () => Settings;
  readonly #problems: Problems;

  constructor(completer: Completer, engine: Engine, settings: () => Settings, problems: Problems) {
    this.#completer = completer;
    this.#engine = engine;
    this.#settings = settings;
    this.#problems = problems;
  }

  async provideInlineCompletionItems(
    document: vscode.TextDocument,
    position: vscode.Position,
    context: vscode.InlineCompletionContext,
    token: vscode.CancellationToken,
  ): Promise<vscode.InlineCompletionItem[] | undefined> {
    const isAsked = context.triggerKind === vscode.InlineCompletionTriggerKind.Invoke;
    const settings = this.#settings();
    if (NO_TEXT_OF_A_USER.has(document.uri.scheme) || (!isAsked && !this.#isWanted(document, settings))) return undefined;
    const selected = selectedIn(document, position, context.selectedCompletionInfo);
    if (selected === undefined) return undefined;
    const { version } = document;
    try {
      const place = placeOf(document, position, selected.added);
      const text = await this.#completer.complete(place, settings, isAsked, signalOf(token));
      const isStale = token.isCancellationRequested || document.version !== version;
      if (text === undefined || isStale) return undefined;
      this.#problems.solved();
      return [new vscode.InlineCompletionItem(selected.whole + text, selected.range)];
    } catch (error) {
      this.#problems.show(error, { once: !isAsked });
      return undefined;
    }
  }

  #isWanted(document: vscode.TextDocument, settings: Settings): boolean {
    const isShown = vscode.workspace.getConfiguration("editor", document).get("inlineSuggest.enabled", true);
    const isOff = settings["completion.disabledLanguages"].includes(document.languageId);
    return settings["completion.enabled"] && isShown && !isOff && this.#engine.state !== "stopped";
  }
}

function placeOf(document: vscode.TextDocument, position: vscode.Position, selected: string): Place {
  return { document: document.uri.toString(), source: sourceOf(document), offset: document.offsetAt(position), selected };
}

function sourceOf(document: vscode.TextDocument): Source {
  const end = document.lineAt(document.lineCount - 1).range.end;
  return {
    length: document.offsetAt(end),
    slice: (start, stop) => document.getText(new vscode.Range(document.positionAt(start), document.positionAt(stop))),
  };
}

interface Selected {
  /** The whole text of the item that the list of suggestions would insert, `added` what of it is not there yet. */
  readonly whole: string;
  readonly added: string;
  readonly range: vscode.Range;
}

/** Ghost text goes on behind the item that is selected in the list of suggestions; undefined where it cannot. */
function selectedIn(
  document: vscode.TextDocument,
  position: vscode.Position,
  info: vscode.SelectedCompletionInfo | undefined,
): Selected | undefined {
  if (info === undefined) return { whole: "", added: "", range: new vscode.Range(position, position) };
  const typed = document.getText(new vscode.Range(info.range.start, position));
  const isBehind = info.range.end.isEqual(position) && info.text.startsWith(typed);
  return isBehind ? { whole: info.text, added: info.text.slice(typed.length), range: info.range } : undefined;
}
