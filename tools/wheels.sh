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

wheel() { # PYTHON SOURCE: the environment of `make setup` has the build tools of the lock file, others fetch their own
    isolation=$([ "$1" = $ours ] && echo --no-build-isolation || echo --no-cache-dir)
    "$1" -m pip --disable-pip-version-check wheel --quiet --no-deps "$isolation" --wheel-dir "$built" "$2"
}

wheel $ours ./clients/python
mv "$built"/*.whl "$folder"
for python in "$@"; do
    echo "building for $("$python" --version)"
    wheel "$python" .
done
if [ "$(uname)" = Linux ]; then
    PATH="$PWD/.venv/bin:$PATH" $ours -m auditwheel repair --wheel-dir "$folder" "$built"/*.whl >/dev/null
else
    mv "$built"/*.whl "$folder"
fi
ls "$folder"/*.whl
