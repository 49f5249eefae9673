import { APICallError } from "@ai-sdk/provider";
import { RpcError } from "mlx-sidecar";

/**
 * An error of the sidecar as the AI SDK knows it, which tries again what is retryable. All others, such as the reason of
 * an abort, are left as they are.
 */
export function callError(error: unknown, method: string, params: object): unknown {
  if (!(error instanceof RpcError)) return error;
  const { message, kind, retryable, data } = error;
  return new APICallError({
    message: `${kind}: ${message}`,
    url: `mlx-sidecar:${method}`,
    requestBodyValues: params,
    isRetryable: retryable,
    data,
    cause: error,
  });
}
