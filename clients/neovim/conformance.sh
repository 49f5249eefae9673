#!/bin/sh
# The adapter for clients/conformance: the client of this plugin, in a Neovim without a screen.
# NVIM names another Neovim than the one on the search path.
here=$(cd "$(dirname "$0")" && pwd)
CONFORMANCE_COMMAND=$(printf '%s\n' "$@") exec "${NVIM:-nvim}" --headless --clean -n -i NONE \
    --cmd "set rtp^=$here" -c "luafile $here/conformance.lua"
