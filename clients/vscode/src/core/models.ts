import type { ModelCard, protocol } from "mlx-sidecar";

/** A row of the model picker. */
export interface ModelChoice {
  readonly name: string;
  readonly isLoaded: boolean;
  /** Size, quantisation and source, or the reason why it cannot be loaded. */
  readonly detail: string;
}

/** The models on this machine and those in use, the latter first. */
export function modelChoices(local: readonly protocol.LocalModel[], cards: readonly ModelCard[]): ModelChoice[] {
  const loaded = new Set(cards.map(({ model }) => model));
  const others = cards.filter(({ model }) => !local.some(({ name }) => name === model)).map(choiceOfCard);
  const here = local.map((model) => ({ name: model.name, isLoaded: loaded.has(model.name) || model.loaded, detail: detailOf(model) }));
  return [...others, ...here].sort((one, other) => Number(other.isLoaded) - Number(one.isLoaded));
}

function choiceOfCard({ model, memory_bytes, quantization, architecture }: ModelCard): ModelChoice {
  return { name: model, isLoaded: true, detail: joined(architecture, quantization, memory_bytes === undefined ? undefined : sized(memory_bytes)) };
}

function detailOf({ problem, architecture, quantization, dtype, size_bytes, source }: protocol.LocalModel): string {
  if (problem) return `cannot be loaded: ${problem}`;
  return joined(architecture, quantization ?? dtype, sized(size_bytes), SOURCES[source]);
}

const SOURCES = { embedded: "comes with the engine", hub: "hub cache", imported: "imported", folder: "folder" } as const;

function joined(...parts: (string | undefined)[]): string {
  return parts.filter((part) => part !== undefined && part !== "").join(" · ");
}

/** Bytes for people: `1.5 GB`. */
export function sized(bytes: number): string {
  const units = ["B", "kB", "MB", "GB", "TB"];
  const power = Math.min(Math.floor(Math.log10(Math.max(bytes, 1)) / 3), units.length - 1);
  const value = bytes / 1000 ** power;
  return `${power === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${units[power]}`;
}
