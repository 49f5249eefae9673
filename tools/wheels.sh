#!/bin/sh
# tools/wheels.sh FOLDER PYTHON…: writes the wheels of both distributions into FOLDER, that with the native part for each
# PYTHON. On Linux they get the oldest manylinux tag that their symbols allow; on macOS the tag is MACOSX_DEPLOYMENT_TARGET.
set -eu
cd "$(dirname "$0")/.."
folder=$1
shift
[ $# -gt 0 ] || { echo "error: name at least one Python" >&2; exit 2; }

ours=.venv/bin/python
built=$(mktemp -d)
trap 'rm -rf "$built"' EXIT
mkdir -p "$folder"
rm -f "$folder"/*.whl  # of other versions, which `pip install FOLDER/*.whl` would take too

wheel() { # PYTHON OPTION… SOURCE
    python=$1
    shift
    "$python" -m pip --disable-pip-version-check wheel --quiet --no-deps --wheel-dir "$built" "$@"
}

# The environment of `make setup` has the build tools of the lock file, and what was compiled there is taken as it is.
# Other Pythons fetch build tools of their own.
wheel $ours --no-build-isolation ./clients/python
mv "$built"/*.whl "$folder"
for python in "$@"; do
    echo "building for $("$python" --version)"
    if [ "$python" = $ours ]; then
        wheel $ours --no-build-isolation --config-settings='build-dir=build/{wheel_tag}' .
    else
        wheel "$python" .
    fi
done
if [ "$(uname)" = Linux ]; then
    PATH="$PWD/.venv/bin:$PATH" $ours -m auditwheel repair --wheel-dir "$folder" "$built"/*.whl >/dev/null
else
    mv "$built"/*.whl "$folder"
fi
ls "$folder"/*.whl
