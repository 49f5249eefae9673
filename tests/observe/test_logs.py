"""Log lines on their way to the host."""

from __future__ import annotations

import logging
import os
import select
import subprocess
import sys

import pytest

from mlx_sidecar.observe import logs
from mlx_sidecar_protocol.notifications import LogParams
from tests.support.sidecar import ROOT, Sidecar


def told(number: int, message: str, *args: object) -> list[LogParams]:
    """Return the `log` notifications of one line."""
    lines: list[LogParams] = []
    hosts = logs.HostLogs()
    hosts.add(lines.append)
    (handler,) = logging.getLogger().handlers
    handler.handle(logging.LogRecord("some.library", number, __file__, 1, message, args, None))
    hosts.remove(lines.append)
    return lines


@pytest.mark.parametrize(
    ("number", "level"),
    [(5, "debug"), (10, "debug"), (20, "info"), (25, "info"), (30, "warning"), (40, "error"), (50, "error")],
)
def test_a_level_of_a_librarys_own_is_the_nearest_below_it(number: int, level: str) -> None:
    (line,) = told(number, "said %s", "so")
    assert (line.level, line.message, line.logger) == (level, "said so", "some.library")


def test_a_line_that_cannot_be_formatted_harms_nobody(capsys: pytest.CaptureFixture[str]) -> None:
    assert told(logging.WARNING, "%d apples", "no") == []
    assert "Logging error" in capsys.readouterr().err


def test_each_host_is_told_until_it_leaves_and_then_lines_go_where_they_went_before() -> None:
    root, hosts = logging.getLogger(), logs.HostLogs()
    before = root.handlers[:]
    one: list[LogParams] = []
    other: list[LogParams] = []
    for host in (one.append, other.append):
        hosts.add(host)
    log = logging.getLogger("some.library")
    log.warning("both")
    hosts.remove(one.append)
    hosts.remove(one.append)
    log.warning("the other")
    assert root.handlers == [hosts]
    hosts.remove(other.append)
    assert root.handlers == before
    assert [line.message for line in one] == ["both"]
    assert [line.message for line in other] == ["both", "the other"]


def test_nobody_waits_for_a_host_that_never_reads_stderr() -> None:
    read, write = os.pipe()
    host = Sidecar("--engine", "fake", "--log-level", "debug", stderr=write)
    os.close(write)
    try:
        for _ in range(2000):  # each is worth a line: more than any pipe holds
            host.notify("initialized", {"unknown": "x" * 100})
        assert host.call("ping") == {}
        assert select.select([read], [], [], 0)[0], "nothing was logged at all"
    finally:
        host.close()
        os.close(read)


def test_a_line_longer_than_a_pipe_promises_to_take_at_once_is_written_whole() -> None:
    script = "from mlx_sidecar.observe.stderr import say; say('é' * 4000 + 'end')"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, cwd=ROOT / "runtime", check=True)
    assert done.stderr.decode() == "é" * 4000 + "end"
