import assert from "node:assert/strict";
import { test } from "node:test";
import { AdapterUnsupported, UnknownAdapter, UnsupportedParameter } from "../dist/index.js";
import { fake } from "./support.mjs";

test("a model that takes no adapters says so", async (t) => {
  const sidecar = await fake(t);
  const refused = (error) => error instanceof UnsupportedParameter && error.data.name === "adapter";
  await assert.rejects(sidecar.loadAdapter({ model: "fake", adapter: "a", path: "/x" }), refused);
  await assert.rejects(sidecar.complete({ model: "fake", prompt: "x", adapter: "a" }), refused);
  await assert.rejects(sidecar.unloadAdapter({ model: "fake", adapter: "a" }), UnknownAdapter);
  assert.deepEqual(await sidecar.adapters(), []);
  assert.ok(AdapterUnsupported.prototype instanceof Error);
});
