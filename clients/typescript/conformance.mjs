// The adapter of clients/conformance. Usage: node conformance.mjs COMMAND ARGUMENT…, the words in front of `serve`.
import { createInterface } from "node:readline";
import { RpcError, Sidecar, SidecarError } from "./dist/index.js";

const sidecar = await Sidecar.spawn({ command: process.argv.slice(2), args: [] });

function told(error) {
  if (error instanceof RpcError) {
    return { code: error.code, kind: error.kind, retryable: error.retryable, data: error.data };
  }
  if (error instanceof SidecarError) return { kind: error.kind };
  throw error;
}

async function load({ params }) {
  const progress = [];
  const result = await sidecar.load(params, { onProgress: (report) => progress.push(report) });
  return { result, progress };
}

/** Takes deltas until there are `most`, or no more. */
async function take(stream, taken, most = Infinity) {
  while (taken.deltas < most) {
    const { done, value } = await stream.next();
    if (done) break;
    taken.text += value.text;
    taken.reasoning += value.reasoning ?? "";
    for (const { index, id, name, arguments: fragment = "" } of value.tool_calls ?? []) {
      taken.tool_calls[index] ??= { id, name, arguments: "" };
      taken.tool_calls[index].arguments += fragment;
    }
    taken.tokens.push(...value.tokens);
    taken.deltas += 1;
  }
}

async function generate({ params, cancel_after, stall_after, meanwhile }) {
  const stream = sidecar.generate(params);
  const taken = { text: "", reasoning: "", tool_calls: [], tokens: [], deltas: 0 };
  try {
    await take(stream, taken, cancel_after ?? stall_after);
    if (cancel_after !== undefined) await stream.return();
    if (meanwhile !== undefined) {
      taken.meanwhile = [];
      for (const operation of meanwhile) taken.meanwhile.push(await perform(operation));
    }
    await take(stream, taken);
    return { ...taken, result: await stream.result };
  } catch (error) {
    return { ...taken, error: told(error) };
  }
}

const operations = {
  call: async ({ method, params }) => ({ result: await sidecar.request(method, params ?? {}) }),
  load,
  generate,
  together: async ({ operations }) => ({ together: await Promise.all(operations.map(perform)) }),
};

async function perform(operation) {
  const act = operations[operation.op];
  if (act === undefined) return { unsupported: `no operation ${operation.op}` };
  try {
    return await act(operation);
  } catch (error) {
    return { error: told(error) };
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  process.stdout.write(`${JSON.stringify(await perform(JSON.parse(line)))}\n`);
}
await sidecar.close();
