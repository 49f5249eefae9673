import { errorOf } from "./kinds.js";

/** The sidecar's limits, from its answer to `initialize`. */
export interface FrameLimits {
  frame_bytes: number;
  nesting: number;
}

/**
 * A message as one line. One beyond a limit is refused here, because the sidecar could not read its id to answer it.
 *
 * @throws TypeError `message` is not JSON.
 * @throws FrameTooLarge, NestingTooDeep
 */
export function encode(message: object, { frame_bytes, nesting }: FrameLimits): string {
  if (isDeeperThan(nesting, message)) {
    throw errorOf("nesting_too_deep", `nested deeper than ${nesting}`, { limit: nesting });
  }
  const line = JSON.stringify(message);
  // A code unit of UTF-16 is three bytes of UTF-8 at most: counting them is seldom needed.
  if (line.length * 3 > frame_bytes && Buffer.byteLength(line) > frame_bytes) {
    throw errorOf("frame_too_large", `a message of more than ${frame_bytes} bytes`, { limit_bytes: frame_bytes });
  }
  return line;
}

function isDeeperThan(levels: number, value: unknown): boolean {
  if (typeof value !== "object" || value === null) return false;
  if (levels === 0) return true;
  return Object.values(value).some((inner) => isDeeperThan(levels - 1, inner));
}
