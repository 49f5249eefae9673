"""Signals, and the death of the parent."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

SERVER = Path(__file__).with_name("fixture_server.py")
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
SOON_S = 20


def spawn() -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, str(SERVER)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=ENVIRONMENT
    )


def ask(server: subprocess.Popen[bytes], id_: int, method: str, params: object = None) -> None:
    assert server.stdin is not None
    server.stdin.write(json.dumps({"jsonrpc": "2.0", "id": id_, "method": method, "params": params}).encode() + b"\n")
    server.stdin.flush()


def answer(server: subprocess.Popen[bytes]) -> dict[str, object]:
    assert server.stdout is not None
    message: dict[str, object] = json.loads(server.stdout.readline())
    return message


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_cancels_answers_and_ends(number: signal.Signals) -> None:
    with spawn() as server:
        ask(server, 1, "t.sleep", [60_000])
        ask(server, 2, "ping")
        assert answer(server)["id"] == 2
        server.send_signal(number)
        last = answer(server)
        assert last["id"] == 1
        assert "error" in last
        assert server.wait(SOON_S) == 128 + number


def test_the_server_leaves_when_the_process_that_initialize_named_dies() -> None:
    with subprocess.Popen(["sleep", "60"]) as host, spawn() as server:
        ask(server, 1, "initialize", {"protocol_version": 1, "client": {"name": "x"}, "process_id": host.pid})
        assert answer(server)["id"] == 1
        host.kill()
        host.wait()
        assert server.wait(SOON_S) == 1


PARENT = """
import subprocess, sys
server = subprocess.Popen([sys.executable, sys.argv[1]])
print(server.pid, file=sys.stderr, flush=True)
server.wait()
"""


def test_the_server_leaves_when_its_parent_dies_though_both_pipes_are_held_by_another() -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(SERVER)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=ENVIRONMENT,
    )
    with parent:
        assert parent.stderr is not None
        parent.stderr.readline()
        ask(parent, 1, "ping")
        assert answer(parent)["id"] == 1
        parent.kill()
        assert parent.stdout is not None
        assert parent.stdout.read() == b""  # its end: the server, who held the other side, has gone
