"""The gateway as its command starts it, for clients in programs of their own."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.error import HTTPError

COMMAND = [sys.executable, "-P", "-m", "mlx_sidecar", "gateway", "--listen", "127.0.0.1:0"]
PATIENCE_S = 60.0


@dataclass(frozen=True)
class GatewayProcess:
    """A running gateway."""

    process: subprocess.Popen[str]
    url: str

    def get(self, path: str, **headers: str) -> tuple[int, Any]:
        """The status and the parsed body."""
        request = urllib.request.Request(self.url + path, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE_S) as response:
                return response.status, json.load(response)
        except HTTPError as error:
            with error:
                return error.code, json.load(error)


@contextmanager
def gateway_process(*options: str, is_ready: bool = True) -> Iterator[GatewayProcess]:
    """A gateway with these options and its models loaded, which is ended afterwards."""
    process = subprocess.Popen([*COMMAND, *options], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        line = process.stderr.readline()
        assert line.startswith("listening on "), line
        gateway = GatewayProcess(process, line.split()[-1])
        if is_ready:
            assert process.stderr.readline() == "ready\n"
        yield gateway
    finally:
        process.terminate()
        try:
            process.wait(PATIENCE_S)
        finally:
            process.kill()
            process.stderr.close()
