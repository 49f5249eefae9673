"""Pairs for hosts that start a program: the program is a relay, and each relay gets a pair of its own here."""

from __future__ import annotations

import os
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .pair import Server, config_of

RELAY = Path(__file__).with_name("relay.py")


class ListeningPair:
    """A host starts ``command`` in the place of ``mlx-sidecar``; it always ends with status 0.

    Its process is also the one that the host is told for the engine's, since the engine has none of its own.
    """

    def __init__(self, address: str) -> None:
        self.command = [sys.executable, "-IS", str(RELAY), address]
        self._servers: list[Server] = []
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(address)
        self._socket.listen()
        self._thread = threading.Thread(target=self._accept, name="listening pair", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End all pairs, and those that were started meanwhile."""
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._socket.close()
        for server in self._servers:
            server.leave()

    def _accept(self) -> None:
        while True:
            try:
                link, _ = self._socket.accept()
            except OSError:  # it was shut down
                return
            pid, *words = _first_line(link).decode().split("\0")
            config = config_of(words)
            assert config.engine == "fake", words
            server = Server(config, os.dup(link.fileno()), link, engine_pid=int(pid))
            self._servers.append(server)
            server.start()


def _first_line(link: socket.socket) -> bytes:
    line = b""
    while not line.endswith(b"\n"):
        line += link.recv(1)
    return line[:-1]


@contextmanager
def listening_pair() -> Iterator[ListeningPair]:
    """One that listens while the block runs."""
    with tempfile.TemporaryDirectory(prefix="pair-") as folder:  # a socket's path must be short
        listening = ListeningPair(f"{folder}/socket")
        try:
            yield listening
        finally:
            listening.close()
