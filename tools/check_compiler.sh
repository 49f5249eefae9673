#!/bin/sh
# Fails, saying so, where no C++ compiler runs: CMake's own message for that is long and does not name the cure.
set -u
compiler=${CXX:-}
if [ -n "$compiler" ]; then
    # CXX may carry arguments ("ccache g++").
    $compiler --version >/dev/null 2>&1 && exit 0
    echo "error: CXX is set to '$compiler', which does not run" >&2
    exit 1
fi
for candidate in c++ g++ clang++; do
    "$candidate" --version >/dev/null 2>&1 && exit 0
done
echo "error: no C++ compiler found (c++, g++, clang++). Debian, Ubuntu: apt-get install g++; macOS: xcode-select --install" >&2
exit 1
