#!/bin/sh
# Installs the programs of the tests with clients: Neovim, Vim, Emacs, jq, Chromium. That is done as root on Debian;
# elsewhere the tests that need them are skipped, and this says so.
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
