// The type declarations that hosts read: every public function and method says what its parameters are.
import assert from "node:assert/strict";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import ts from "typescript";

const index = fileURLToPath(new URL("../dist/index.d.ts", import.meta.url));
const program = ts.createProgram([index], { module: ts.ModuleKind.NodeNext, target: ts.ScriptTarget.ES2022 });
const checker = program.getTypeChecker();

/** Each function and public method that the package exports, by its name. */
function* functions() {
  const exported = checker.getExportsOfModule(checker.getSymbolAtLocation(program.getSourceFile(index)));
  for (const symbol of exported) {
    const found = symbol.flags & ts.SymbolFlags.Alias ? checker.getAliasedSymbol(symbol) : symbol;
    for (const declaration of found.declarations ?? []) {
      if (ts.isFunctionDeclaration(declaration)) yield [symbol.name, declaration];
      if (!ts.isClassDeclaration(declaration)) continue;
      const methods = declaration.members.filter(ts.isMethodDeclaration);
      for (const method of methods) yield [`${symbol.name}.${method.name.getText()}`, method];
    }
  }
}

test("every parameter of a public function has its line", () => {
  const all = [...functions()];
  assert.ok(all.length > 40);
  const missing = all.flatMap(([name, declaration]) =>
    declaration.parameters
      .filter((parameter) => !ts.getJSDocParameterTags(parameter)[0]?.comment)
      .map((parameter) => `${name}: ${parameter.name.getText()}`),
  );
  assert.deepEqual(missing, []);
});

test("every public function says what it does", () => {
  const silent = [...functions()].filter(([name, declaration]) => {
    const isOfTheLanguage = /next|return|\[Symbol/.test(name); // the iterator's and the disposer's own
    return !isOfTheLanguage && ts.getJSDocCommentsAndTags(declaration).length === 0;
  });
  assert.deepEqual(silent.map(([name]) => name), []);
});
