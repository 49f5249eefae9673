import { Connection, type Launch } from "./connection.js";
import { type RpcError, SidecarClosed, SidecarLost } from "./errors.js";
import type { AdapterLoadParams, InitializeResult, LoadParams } from "./generated.js";

const MOST_DEATHS = 5; // within WITHIN_MS; a sidecar that dies more often is not going to be of use
const WITHIN_MS = 60_000;
const FIRST_PAUSE_MS = 100;
const LONGEST_PAUSE_MS = 2000;

/** Keeps a process running: starts one, and another one when it has died. */
export class Supervisor {
  /** The host's loads by model, which each new process gets first. */
  readonly loads = new Map<string, LoadParams>();
  /** The same of its adapters, by model and name. */
  readonly adapters = new Map<string, AdapterLoadParams>();
  readonly #launch: Launch;
  readonly #respawn: boolean;
  /** Tells the host of something that it should know. */
  readonly warn: (message: string) => void;
  readonly #closing = new AbortController();
  readonly #deaths: number[] = [];
  #present: Connection | undefined; // the one there is, also while it comes up
  #current: Connection | undefined; // the same, once it can be used
  #next: Promise<Connection>;
  #end: Promise<void> | undefined;
  #pause: NodeJS.Timeout | undefined;
  #initialized: InitializeResult | undefined; // of the last one
  #requests = 0;

  constructor(launch: Launch, respawn: boolean, onWarning: (message: string) => void) {
    this.#launch = launch;
    this.#respawn = respawn;
    this.warn = onWarning;
    this.#next = this.#comeUp();
    this.#next.catch(() => {}); // requests that wait for it get the error
  }

  get pid(): number | undefined {
    return this.#current?.pid;
  }

  get initialized(): InitializeResult | undefined {
    return this.#initialized;
  }

  /**
   * The process there is, at once; else a promise of the next one, which fails with SidecarLost if there will be none.
   *
   * @throws SidecarClosed
   */
  connection(): Connection | Promise<Connection> {
    if (this.#closing.signal.aborted) throw new SidecarClosed();
    return this.#current ?? this.#next.catch(fail);
  }

  /** A request begins: until `leave` the process that answers it keeps this one from ending by itself. */
  enter(): void {
    this.#requests += 1;
    if (this.#requests === 1) this.#hold(true);
  }

  leave(): void {
    this.#requests -= 1;
    if (this.#requests === 0) this.#hold(false);
  }

  #hold(isHeld: boolean): void {
    this.#present?.hold(isHeld);
    if (isHeld) this.#pause?.ref();
    else this.#pause?.unref();
  }

  /** Ends the process. It is gone when this settles. */
  close(): Promise<void> {
    return (this.#end ??= this.#close());
  }

  async #close(): Promise<void> {
    this.#closing.abort();
    this.enter();
    const present = this.#present;
    if (present !== undefined && present === this.#current) await present.close();
    else present?.kill();
    await present?.ended;
    this.leave();
  }

  async #comeUp(): Promise<Connection> {
    const connection: Connection = new Connection(this.#launch, (lost) => this.#ended(connection, lost));
    this.#present = connection;
    connection.hold(this.#requests > 0);
    try {
      this.#initialized = await connection.initialize();
      const loads = [...this.loads.values()].map((params) => this.#again(connection, "load", params.model, params));
      await Promise.all(loads);
      const adapters = [...this.adapters.values()];
      await Promise.all(adapters.map((params) => this.#again(connection, "adapter/load", params.adapter, params)));
    } catch (error) {
      connection.kill();
      throw error;
    }
    this.#current = connection;
    return connection;
  }

  async #again(connection: Connection, method: string, name: string, params: object): Promise<void> {
    try {
      await connection.request(method, params);
    } catch (error) {
      if (error instanceof SidecarLost) throw error;
      // A request for it will say so.
      this.warn(`${name} could not be loaded again: ${(error as RpcError).message}`);
    }
  }

  /** One that ends while it comes up is #comeUp's to tell of. */
  #ended(connection: Connection, lost: SidecarLost): void {
    if (connection !== this.#current) return;
    this.#current = undefined;
    this.#next = this.#replace(lost);
    this.#next.catch(() => {});
  }

  async #replace(lost: SidecarLost): Promise<Connection> {
    while (!this.#closing.signal.aborted) {
      this.warn(lost.message);
      if (!this.#respawn || this.#isHopeless()) throw lost;
      await this.#rest();
      try {
        return await this.#comeUp();
      } catch (error) {
        lost = error instanceof SidecarLost ? error : new SidecarLost(`the sidecar did not come up: ${error}`);
      }
    }
    throw new SidecarClosed();
  }

  /** Counts a death; whether there were too many of them. */
  #isHopeless(): boolean {
    const now = performance.now();
    this.#deaths.push(now);
    while (this.#deaths[0]! < now - WITHIN_MS) this.#deaths.shift();
    return this.#deaths.length > MOST_DEATHS;
  }

  /** Longer with each death, cut short by `close`. */
  async #rest(): Promise<void> {
    const pause_ms = Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** (this.#deaths.length - 1));
    await new Promise<void>((resolve) => {
      this.#pause = setTimeout(resolve, pause_ms);
      this.#closing.signal.addEventListener("abort", () => resolve(), { once: true });
      this.#hold(this.#requests > 0);
    });
    clearTimeout(this.#pause);
  }
}

/** Throws an error of its own for each waiting request. */
function fail(error: unknown): never {
  throw error instanceof SidecarLost ? error.anew() : error;
}
