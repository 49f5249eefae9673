"""Stands in for llama.cpp's ``llama-server``: the gateway, told by that program's options what it can be told.

    python -m benchmarks.suites.llama_server --host 127.0.0.1 --port 8080 --alias NAME …

Clients of llama.cpp name any model or none, so that the names below all lead to one. Options that set how a llama model
is computed (batch sizes, threads, slots, caches) have nothing to set here and are passed over.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

MODEL = os.environ.get("MLX_SIDECAR_SUITE_MODEL", "pocket")
EMBEDDER = os.environ.get("MLX_SIDECAR_SUITE_EMBEDDER", MODEL)
NAMES = ("test", "gpt-3.5-turbo", "gpt-3.5-turbo-instruct", "codellama70b", "text-embedding-3-small")


def main() -> None:
    given, _ = _parser().parse_known_args()
    command = [sys.executable, "-P", "-m", "mlx_sidecar", "gateway", "--listen", f"{given.host}:{given.port}"]
    for name in dict.fromkeys([given.alias or "llama", *NAMES]):
        command += ["--model", f"{name}={EMBEDDER if given.embedding else MODEL}"]
    if given.api_key is not None:
        command += ["--keys", _keys(given.api_key)]
    os.execv(sys.executable, command)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="llama-server", allow_abbrev=False)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--alias")
    parser.add_argument("--api-key")
    parser.add_argument("--embedding", action="store_true")
    return parser


def _keys(key: str) -> str:
    file = Path(tempfile.mkdtemp(prefix="llama-server-")) / "keys"
    file.touch(0o600)
    file.write_text(f"suite {key}\n")
    return str(file)


if __name__ == "__main__":
    main()
