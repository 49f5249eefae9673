#!/bin/sh
# Puts Prometheus' promtool, which checks the rules of alerts and the dashboard's expressions, into .venv/promtool. It is
# unpacked from Debian's package, without root; elsewhere its tests are skipped, and this says so.
set -u
cd "$(dirname "$0")/.." || exit 1

.venv/promtool --version >/dev/null 2>&1 && exit 0
if found=$(command -v promtool); then
    exec ln -sf "$found" .venv/promtool
fi

folder=$(mktemp -d) || exit 1
trap 'rm -rf "$folder"' EXIT
download() { (cd "$folder" && apt-get download -qq prometheus) >/dev/null 2>&1; }

if command -v apt-get >/dev/null 2>&1 && command -v dpkg >/dev/null 2>&1; then
    # The lists of packages may be missing or old, and root alone may fetch them.
    download || { [ "$(id -u)" = 0 ] && apt-get update -qq >/dev/null && download; } || true
    dpkg -x "$folder"/prometheus_*.deb "$folder" 2>/dev/null && cp "$folder/usr/bin/promtool" .venv/promtool
fi
.venv/promtool --version >/dev/null 2>&1 || echo "note: no promtool: not tested are alerts and the dashboard's expressions" >&2
