/** A setting with a value of a wrong kind. The message names it and says what it must be. */
export class InvalidSetting extends Error {
  readonly kind = "invalid_setting";

  constructor(
    readonly setting: string,
    wanted: string,
    given: unknown,
  ) {
    super(`mlxSidecar.${setting} must be ${wanted}, not ${JSON.stringify(given)}`);
  }
}

interface Field<Value> {
  readonly fallback: Value;
  readonly wanted: string;
  readonly fits: (value: unknown) => boolean;
}

function field<Value>(fallback: Value, wanted: string, fits: (value: unknown) => boolean): Field<Value> {
  return { fallback, wanted, fits };
}

const isText = (value: unknown): boolean => typeof value === "string";
const isTexts = (value: unknown): boolean => Array.isArray(value) && value.every(isText);
const isWhole = (value: unknown, least: number): boolean => Number.isSafeInteger(value) && (value as number) >= least;

const text = (fallback: string) => field(fallback, "a text", isText);
const texts = (...fallback: string[]) => field<readonly string[]>(fallback, "a list of texts", isTexts);
const flag = (fallback: boolean) => field(fallback, "true or false", (value) => typeof value === "boolean");
const whole = (fallback: number, least: number) =>
  field(fallback, `a whole number from ${least}`, (value) => isWhole(value, least));
const number = (fallback: number) =>
  field(fallback, "a number from 0", (value) => typeof value === "number" && Number.isFinite(value) && value >= 0);

/** Every setting, by its name behind `mlxSidecar.`, with its default. package.json declares the same to the editor. */
export const FIELDS = {
  executable: text(""),
  arguments: texts(),
  model: text("pocket"),
  escapeSpecialTokens: flag(true),
  "completion.enabled": flag(true),
  "completion.model": text(""),
  "completion.debounceMs": whole(150, 0),
  "completion.maxTokens": whole(96, 1),
  "completion.temperature": number(0),
  "completion.multiline": flag(true),
  "completion.stop": texts("\n\n"),
  "completion.prefixCharacters": whole(8192, 256),
  "completion.suffixCharacters": whole(1024, 0),
  "completion.disabledLanguages": texts(),
  "chat.model": text(""),
  "chat.system": text(""),
  "chat.maxTokens": whole(2048, 1),
  "chat.temperature": number(0),
  "chat.reasoningBudget": field<number | null>(null, "a whole number from 0, or null", (value) => value === null || isWhole(value, 0)),
};

export type SettingName = keyof typeof FIELDS;
export type Settings = { readonly [Name in SettingName]: (typeof FIELDS)[Name]["fallback"] };

/**
 * All settings; those that `get` does not know have their defaults.
 *
 * @throws InvalidSetting
 */
export function readSettings(get: (name: string) => unknown): Settings {
  const read = Object.entries(FIELDS).map(([name, { fallback, wanted, fits }]) => {
    const value = get(name) ?? fallback;
    if (!fits(value)) throw new InvalidSetting(name, wanted, value);
    return [name, value];
  });
  return Object.fromEntries(read) as Settings;
}

/** The names of the settings that differ. */
export function changed(before: Settings, now: Settings): Set<SettingName> {
  const names = Object.keys(FIELDS) as SettingName[];
  return new Set(names.filter((name) => JSON.stringify(before[name]) !== JSON.stringify(now[name])));
}

/** Whether only another process can honour the change: the rest is read anew by each request. */
export function needsRestart(names: ReadonlySet<SettingName>): boolean {
  return names.has("executable") || names.has("arguments");
}

export function completionModel(settings: Settings): string {
  return settings["completion.model"] || settings.model;
}

export function chatModel(settings: Settings): string {
  return settings["chat.model"] || settings.model;
}
