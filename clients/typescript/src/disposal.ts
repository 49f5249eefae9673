// Node 20.0 to 20.4 have no such symbol, without which `await using`, which compilers translate, does not work.
if (!Object.hasOwn(Symbol, "asyncDispose")) {
  Object.defineProperty(Symbol, "asyncDispose", { value: Symbol.for("Symbol.asyncDispose") });
}
export {};
