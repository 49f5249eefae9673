"""A collector of OpenTelemetry as others run it, on loopback: Rotel, which takes OTLP and sends it on as OTLP."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from tests.gateway.support import PATIENCE_S


def agent() -> Path | None:
    """Its program, which comes in a package of Python; None where there is none."""
    found = find_spec("rotel")
    return None if found is None or found.origin is None else Path(found.origin).parent / "rotel-agent"


@contextmanager
def collector(program: Path, sends_to: str) -> Iterator[str]:
    """A collector that sends on what it takes, at the end of the block at the latest; gives its URL."""
    with socket.socket() as http, socket.socket() as grpc:
        for each in (http, grpc):
            each.bind(("127.0.0.1", 0))
        port, other_port = (each.getsockname()[1] for each in (http, grpc))
    options = {
        "otlp-http-endpoint": f"127.0.0.1:{port}",
        "otlp-grpc-endpoint": f"127.0.0.1:{other_port}",
        "exporter": "otlp",
        "otlp-exporter-protocol": "http",
        "otlp-exporter-endpoint": sends_to,
        "otlp-exporter-compression": "none",
        "batch-timeout": "50ms",
    }
    words = [word for name, value in options.items() for word in (f"--{name}", value)]
    process = subprocess.Popen([program, "start", *words], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert "Starting Rotel" in line, line
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        try:
            process.communicate(timeout=PATIENCE_S)
        finally:
            process.kill()
