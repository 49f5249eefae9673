#!/bin/sh
# Prints the Python to build the virtual environment with: the one named in $1, else the newest of those we try.
# If there is none, says so on stderr and fails.
set -u
oldest="3.11"

fits() {
    "$1" -c "import sys; sys.exit(sys.version_info < tuple(map(int, '$oldest'.split('.'))))" >/dev/null 2>&1
}

has_venv() {
    "$1" -c 'import venv, ensurepip' >/dev/null 2>&1
}

tried=""
without_venv=""
for candidate in ${1:-python3.13 python3.12 python3.11 python3}; do
    path=$(command -v "$candidate" 2>/dev/null) || continue
    version=$("$path" -c 'import platform; print(platform.python_version())' 2>/dev/null) || continue
    tried="$tried $candidate ($version)"
    fits "$path" || continue
    if ! has_venv "$path"; then
        without_venv="$without_venv $candidate"
        continue
    fi
    echo "$path"
    exit 0
done

if [ -n "$without_venv" ]; then
    echo "error:$without_venv lacks the modules venv and ensurepip (on Debian and Ubuntu: apt-get install python3-venv)" >&2
elif [ -n "$tried" ]; then
    echo "error: mlx-sidecar needs Python $oldest or newer; found only:$tried. Name one: make PYTHON=/path/to/python3" >&2
else
    echo "error: mlx-sidecar needs Python $oldest or newer; none was found${1:+ as '$1'}. Name one: make PYTHON=/path/to/python3" >&2
fi
exit 1
