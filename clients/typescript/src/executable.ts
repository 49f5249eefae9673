import { accessSync, constants, statSync } from "node:fs";
import { delimiter, resolve } from "node:path";
import { ExecutableNotFound } from "./errors.js";

const NAME = "mlx-sidecar";
const VARIABLE = "MLX_SIDECAR";

export type Environment = Readonly<Record<string, string | undefined>>;

/**
 * The words in front of `serve`: the host's, else those of the environment variable `MLX_SIDECAR`, else `mlx-sidecar` on
 * the search path. Of a list only the first word is looked up.
 *
 * @throws ExecutableNotFound
 */
export function findCommand(command: string | readonly string[] | undefined, env: Environment): string[] {
  if (typeof command === "string") return [lookUp(command, env, `command names "${command}"`)];
  if (command !== undefined) {
    const [first, ...rest] = command;
    if (first === undefined) throw new TypeError("command: no words");
    return [lookUp(first, env, `command names "${first}"`), ...rest];
  }
  const named = env[VARIABLE];
  if (named) return [lookUp(named, env, `${VARIABLE} names "${named}"`)];
  return [lookUp(NAME, env, `${VARIABLE} is not set, and ${NAME} is not on the search path`)];
}

/** A name with a slash is a path; any other is looked for in PATH. Absolute, as the child may work elsewhere. */
function lookUp(name: string, env: Environment, tried: string): string {
  const folders = name.includes("/") ? ["."] : (env["PATH"] ?? "").split(delimiter);
  const found = folders.map((folder) => resolve(folder, name)).find(isExecutable);
  if (found === undefined) throw new ExecutableNotFound(tried);
  return found;
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return statSync(path).isFile();
  } catch {
    return false; // not there, or not for us
  }
}
