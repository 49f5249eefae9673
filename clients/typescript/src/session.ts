import type * as protocol from "./generated.js";
import type { CallOptions } from "./options.js";
import type { AnswerOptions, Sidecar } from "./sidecar.js";
import type { Stream } from "./stream.js";

/** Parameters of `session/open`. */
export type SessionOptions = protocol.SessionOpenParams;

/** Parameters of a turn, except its messages. */
export type TurnOptions = Omit<
  AnswerOptions<undefined, undefined>,
  "model" | "session" | "template_args" | "tools"
>;

type Messages = NonNullable<protocol.GenerateParams["messages"]>;

/**
 * A chat that the sidecar holds: each request brings the new messages alone, and any turn can be gone back to.
 *
 * It is gone with the process of the sidecar: then every method fails as `UnknownSession`.
 */
export class Session {
  readonly id: string;
  readonly #sidecar: Sidecar;

  private constructor(sidecar: Sidecar, id: string) {
    this.#sidecar = sidecar;
    this.id = id;
  }

  /**
   * A new chat with `model`.
   *
   * @param sidecar The one that holds the chat.
   * @param params `model`; `messages` and `tools` it begins with, `template_args`, `ttl_s`.
   * @param options `signal` cancels the request.
   */
  static async open(sidecar: Sidecar, params: SessionOptions, options?: CallOptions): Promise<Session> {
    return new Session(sidecar, (await sidecar.request("session/open", params, options)).session);
  }

  /**
   * The chat in a file that `write` made.
   *
   * @param sidecar The one that holds the chat.
   * @param params `path` of the file, absolute; `model` if it is to be another one, `ttl_s`.
   * @param options `signal` cancels the request.
   */
  static async read(sidecar: Sidecar, params: protocol.SessionImportParams, options?: CallOptions): Promise<Session> {
    return new Session(sidecar, (await sidecar.request("session/import", params, options)).session);
  }

  /**
   * Answers the new messages, behind the latest turn or the one `at`; as `Sidecar.generate`.
   *
   * @param messages Those that the chat does not have yet.
   * @param params As `generate` takes them; `at` is the turn to go on from.
   * @param options `signal` cancels the generation.
   */
  generate(messages: Messages, params: TurnOptions = {}, options?: CallOptions): Stream {
    return this.#sidecar.generate({ ...params, session: this.id, messages }, options);
  }

  /**
   * Another session that goes on from the latest turn or the one `at`.
   *
   * @param at The turn to go on from; by default the latest.
   * @param options `signal` cancels the request.
   */
  async fork(at?: string, options?: CallOptions): Promise<Session> {
    const params = { session: this.id, at: at ?? null };
    return new Session(this.#sidecar, (await this.#sidecar.request("session/fork", params, options)).session);
  }

  /**
   * Removes the turns behind `to`, or with `dryRun` only tells which these are.
   *
   * @param to The turn that is the last one afterwards.
   * @param options `dryRun` removes nothing. `signal` cancels the request.
   */
  async rollBack(to: string, { dryRun = false, ...options }: CallOptions & { dryRun?: boolean } = {}): Promise<string[]> {
    const params = { session: this.id, to, dry_run: dryRun };
    return (await this.#sidecar.request("session/rollback", params, options)).removed;
  }

  /**
   * All turns, with their messages.
   *
   * @param options `signal` cancels the request.
   */
  get(options?: CallOptions): Promise<protocol.SessionGetResult> {
    return this.#sidecar.request("session/get", { session: this.id }, options);
  }

  /**
   * Writes it to a file, whose path must be absolute; without keys and values.
   *
   * @param path Of the file, absolute.
   * @param options `signal` cancels the request.
   */
  async write(path: string, options?: CallOptions): Promise<void> {
    await this.#sidecar.request("session/export", { session: this.id, path }, options);
  }

  /**
   * Has the sidecar forget it.
   *
   * @param options `signal` cancels the request.
   */
  async close(options?: CallOptions): Promise<void> {
    await this.#sidecar.request("session/close", { session: this.id }, options);
  }
}
