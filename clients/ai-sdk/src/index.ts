export { createMlxSidecar, type MlxSidecarOptions, type MlxSidecarProvider, mlxSidecar } from "./provider.js";
export type { MlxSidecarParameters } from "./parameters.js";
