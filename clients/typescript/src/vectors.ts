import { RpcError } from "./errors.js";
import type * as protocol from "./generated.js";
import { errorFrom } from "./kinds.js";

const BATCH = 256;
const AT_ONCE = 2; // requests: one that the sidecar works on, and one that waits there

/** Parameters of `embedAll`: those of `embed`, and how many texts make a request. */
export type EmbedAllParams = Omit<protocol.EmbedParams, "encoding"> & { batch?: number };

/** A vector for each of the texts, in order, by requests of some of them each. Errors number texts among all. */
export async function embeddedAll(
  embed: (params: protocol.EmbedParams) => Promise<protocol.EmbedResult>,
  { batch = BATCH, ...params }: EmbedAllParams,
): Promise<Float32Array[]> {
  if (!(Number.isInteger(batch) && batch >= 1)) throw new RangeError("batch: at least one text makes a request");
  const found: Float32Array[] = new Array(params.input.length);
  let next = 0;
  let failed = false;
  const work = async () => {
    while (next < params.input.length && !failed) {
      const first = next;
      next += batch;
      try {
        const input = params.input.slice(first, first + batch);
        const { embeddings } = await embed({ ...params, input, encoding: "base64" });
        embeddings.forEach((vector, at) => (found[first + at] = numbers(vector as string)));
      } catch (error) {
        failed = true;
        throw error instanceof RpcError ? amongAll(error, first) : error;
      }
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, work));
  return found;
}

/** The error with the number of a text among all, where a request had its texts from `first` on. */
function amongAll(error: RpcError, first: number): RpcError {
  const moved = (place: string) => place.replace(/^input\.(\d+)/, (_, number: string) => `input.${Number(number) + first}`);
  const data = { ...error.data } as { field?: unknown; errors?: unknown };
  if (typeof data.field === "string") data.field = moved(data.field);
  if (Array.isArray(data.errors)) {
    data.errors = data.errors.map((fault: { loc: (string | number)[] }) => {
      const [name, number, ...inner] = fault.loc;
      return name === "input" && typeof number === "number" ? { ...fault, loc: [name, number + first, ...inner] } : fault;
    });
  }
  return errorFrom({ code: error.code, message: moved(error.message), data });
}

function numbers(encoded: string): Float32Array {
  const bytes = Buffer.from(encoded, "base64");
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return Float32Array.from({ length: bytes.byteLength / 4 }, (_, at) => view.getFloat32(4 * at, true));
}
