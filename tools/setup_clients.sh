#!/bin/sh
# Brings what the tests with foreign clients need: Node with the packages of tests/node, and Neovim.
# What is missing is installed where that is ours to do (Debian, as root); else the tests that need it are skipped,
# and this says which.
set -u
cd "$(dirname "$0")/.." || exit 1

missing=""
command -v node >/dev/null 2>&1 && command -v npm >/dev/null 2>&1 || missing="$missing nodejs npm"
command -v nvim >/dev/null 2>&1 || missing="$missing neovim"

if [ -n "$missing" ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    echo "installing with apt-get:$missing"
    # shellcheck disable=SC2086  # one word per package
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing; } >/dev/null ||
        echo "apt-get could not install:$missing" >&2
fi

command -v nvim >/dev/null 2>&1 || echo "note: no Neovim (nvim): the tests with vim.lsp.rpc are skipped" >&2
if ! command -v node >/dev/null 2>&1 || ! command -v npm >/dev/null 2>&1; then
    echo "note: no Node (node, npm): the tests with vscode-jsonrpc, tsc and ajv are skipped" >&2
    exit 0
fi
[ -f tests/node/package-lock.json ] || exit 0
stamp=tests/node/node_modules/.installed
[ -f "$stamp" ] && [ "$stamp" -nt tests/node/package-lock.json ] && [ "$stamp" -nt tests/node/package.json ] && exit 0
npm --prefix tests/node ci --no-audit --no-fund --loglevel=error && touch "$stamp"
