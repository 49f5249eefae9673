import type { GenerateResult, Sidecar } from "mlx-sidecar";
import type { Engine } from "./engine.js";
import { fillingPrompt, type Filling, findFilling } from "./fim.js";
import { Memo, unlessAborted } from "./memo.js";
import type { Loader } from "./loader.js";
import { completionModel, type Settings } from "./settings.js";
import { isWhole, type Shape, shapeAt, suggestionIn } from "./shape.js";
import { type Source, surroundings, type Surroundings } from "./surroundings.js";

/** A place that a completion is asked for. */
export interface Place {
  /** A name of the document. */
  readonly document: string;
  readonly source: Source;
  /** UTF-16 code units in front of the gap. */
  readonly offset: number;
  /** Text that the editor's own list of suggestions is about to insert at the gap. */
  readonly selected?: string;
}

export interface CompleterListeners {
  /** A generation ended; of one that was cut off early this has the figures until then. */
  onResult(model: string, result: GenerateResult): void;
  /** The number of generations that run. */
  onRunning(count: number): void;
}

/** Settles after so many milliseconds, or fails with the reason of the signal. */
export type Pause = (ms: number, signal: AbortSignal) => Promise<unknown>;

interface Suggestion {
  readonly place: Place;
  readonly around: Surroundings;
  readonly text: string;
}

/**
 * Completes text at a cursor, one place at a time: a request cancels the one before, and waits a moment first unless it
 * was asked for by name. While the user types what was suggested last, the rest of that is the suggestion.
 */
export class Completer {
  readonly #engine: Engine;
  readonly #loader: Loader;
  readonly #listeners: CompleterListeners;
  readonly #pause: Pause;
  readonly #fillings = new Memo<Sidecar, Filling | undefined>();
  #current: AbortController | undefined;
  #last: Suggestion | undefined;
  #running = 0;

  constructor(engine: Engine, loader: Loader, pause: Pause, listeners: CompleterListeners) {
    this.#engine = engine;
    this.#loader = loader;
    this.#pause = pause;
    this.#listeners = listeners;
  }

  /**
   * The suggestion at a place; undefined where there is none, the signal was aborted, or another request came.
   *
   * @throws SidecarError What the engine answered. Errors of requests that were left are not thrown.
   */
  async complete(place: Place, settings: Settings, isAsked: boolean, signal: AbortSignal): Promise<string | undefined> {
    this.cancel();
    const around = withSelected(surroundings(place.source, place.offset, limitsOf(settings)), place.selected);
    const known = this.#rest(place, around);
    if (known !== undefined) return known;
    const current = (this.#current = new AbortController());
    const either = AbortSignal.any([current.signal, signal]);
    try {
      if (!isAsked) await this.#pause(settings["completion.debounceMs"], either);
      const text = await this.#ask(around, settings, either);
      either.throwIfAborted();
      return this.#remember({ place, around, text });
    } catch (error) {
      if (either.aborted) return undefined;
      throw error;
    } finally {
      if (this.#current === current) this.#current = undefined;
    }
  }

  /** Leaves the request that runs, in the engine too. */
  cancel(): void {
    this.#current?.abort();
    this.#current = undefined;
  }

  /** Forgets the last suggestion, because it would be another one now. */
  forget(): void {
    this.#last = undefined;
    this.cancel();
  }

  #remember(suggestion: Suggestion): string | undefined {
    if (suggestion.text === "") return undefined;
    this.#last = suggestion;
    return suggestion.text;
  }

  /** What is left of the last suggestion where the user has typed its beginning, and changed nothing else. */
  #rest(place: Place, around: Surroundings): string | undefined {
    const last = this.#last;
    if (last === undefined || last.place.document !== place.document) return undefined;
    const typed = place.offset - last.place.offset + (place.selected ?? "").length - (last.place.selected ?? "").length;
    if (typed < 0 || typed >= last.text.length) return undefined;
    const expected = last.around.before + last.text.slice(0, typed);
    const compared = Math.min(expected.length, around.before.length); // the windows may begin at different lines
    const isSame = expected.slice(-compared) === around.before.slice(-compared) && last.around.after === around.after;
    return isSame && compared > 0 ? last.text.slice(typed) : undefined;
  }

  async #ask(around: Surroundings, settings: Settings, signal: AbortSignal): Promise<string> {
    const model = completionModel(settings);
    const sidecar = await unlessAborted(this.#engine.sidecar(), signal);
    await unlessAborted(this.#loader.ready(sidecar, model), signal);
    const find = () => findFilling(sidecar, model);
    const filling = await unlessAborted(this.#fillings.get(sidecar, model, find), signal);
    if (filling === undefined && around.before.trim() === "") return ""; // there is nothing to go on from
    const prompt = await promptOf(sidecar, model, filling, around, settings, signal);
    return this.#generate(sidecar, model, prompt, around, settings, signal);
  }

  async #generate(
    sidecar: Sidecar,
    model: string,
    prompt: Prompt,
    around: Surroundings,
    settings: Settings,
    signal: AbortSignal,
  ): Promise<string> {
    const shape = shapeAt(around, settings["completion.multiline"]);
    const stream = sidecar.generate(
      {
        model,
        ...prompt,
        max_tokens: settings["completion.maxTokens"],
        temperature: settings["completion.temperature"],
        stop: stopsOf(settings, shape),
        priority: "high",
        echo_text: false,
      },
      { signal },
    );
    this.#count(+1);
    try {
      for await (const _ of stream) if (isWhole(stream.text, shape, around)) break;
      this.#listeners.onResult(model, await stream.result);
      return suggestionIn(stream.text, shape, around);
    } finally {
      this.#count(-1);
    }
  }

  #count(change: number): void {
    this.#running += change;
    this.#listeners.onRunning(this.#running);
  }
}

type Prompt = { prompt: string; escape_special: boolean } | { tokens: number[]; stop_tokens: number[] };

/**
 * Control tokens of a filling are put beside the tokens of the texts, so that a text which looks like one of them stays
 * a text, unless the settings say otherwise.
 */
async function promptOf(
  sidecar: Sidecar,
  model: string,
  filling: Filling | undefined,
  { before, after }: Surroundings,
  settings: Settings,
  signal: AbortSignal,
): Promise<Prompt> {
  const escape_special = settings.escapeSpecialTokens;
  if (filling === undefined) return { prompt: before, escape_special };
  const tokensOf = async (text: string) => {
    if (text === "") return [];
    return (await sidecar.tokenize({ model, text, add_special: false, escape_special }, { signal })).tokens;
  };
  const [head, tail] = await Promise.all([tokensOf(before), tokensOf(after)]);
  return { tokens: fillingPrompt(filling, head, tail), stop_tokens: [...filling.stops] };
}

function limitsOf(settings: Settings): { prefixCharacters: number; suffixCharacters: number } {
  return {
    prefixCharacters: settings["completion.prefixCharacters"],
    suffixCharacters: settings["completion.suffixCharacters"],
  };
}

function stopsOf(settings: Settings, shape: Shape): string[] {
  const stops = settings["completion.stop"].filter((stop) => stop !== "");
  return shape === "line" ? [...stops, "\n"] : [...stops];
}

function withSelected(around: Surroundings, selected = ""): Surroundings {
  const before = around.before + selected;
  return { ...around, before, lineBefore: before.slice(before.lastIndexOf("\n") + 1) };
}
