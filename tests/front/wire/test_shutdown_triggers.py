"""Noticing that the host is gone: at once where the system tells, within the promised second where it does not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from tempfile import TemporaryFile

import anyio
import pytest

from mlx_sidecar.front.wire import shutdown_triggers as watch

PATIENCE_S = 60.0  # a bound for what must happen, not a measurement
NEVER_S = 1e6
TOLD_BY_THE_SYSTEM = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells of a death")


@contextmanager
def idle_process() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()


def watched(host: Callable[[], int | None], then: Callable[[], object], parent: int | None = None) -> None:
    """Run ``until_orphaned`` with ``then`` called once it waits; returns when it does."""

    async def main() -> None:
        with anyio.fail_after(PATIENCE_S):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(watch.until_orphaned, os.getppid() if parent is None else parent, host)
                await anyio.wait_all_tasks_blocked()
                then()

    anyio.run(main)


def test_a_parent_that_was_gone_before_the_watch_began_is_noticed() -> None:
    watched(lambda: None, lambda: None, parent=os.getppid() + 1)


@pytest.mark.parametrize("pidfd", [pytest.param(True, marks=TOLD_BY_THE_SYSTEM), False], ids=["told", "polled"])
def test_a_named_process_that_was_gone_before_the_watch_began_is_noticed(
    pidfd: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not pidfd:
        monkeypatch.delattr(os, "pidfd_open", raising=False)
    with idle_process() as process:
        process.kill()
        process.wait()
    watched(lambda: process.pid, lambda: None)


@TOLD_BY_THE_SYSTEM
def test_the_death_of_a_named_process_is_noticed_without_looking_even_if_nobody_reaps_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(watch, "_EVERY_S", NEVER_S)
    with idle_process() as process:
        watched(lambda: process.pid, process.kill)
        assert process.returncode is None  # we have not waited for it: it is a zombie


def test_the_death_of_a_named_process_is_noticed_by_looking_where_the_system_does_not_tell(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(watch, "_EVERY_S", 0.01)
    monkeypatch.delattr(os, "pidfd_open", raising=False)
    with idle_process() as process:

        def kill() -> None:
            process.kill()
            process.wait()

        watched(lambda: process.pid, kill)


def test_a_process_that_is_named_later_is_watched_from_then_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "_EVERY_S", 0.01)
    named: list[int] = []
    with idle_process() as process:

        def name() -> None:
            named.append(process.pid)
            process.kill()
            process.wait()

        watched(lambda: named[0] if named else None, name)


@pytest.mark.parametrize("pid", [1, 2**31 + 5], ids=["of somebody else", "of no process there can be"])
def test_a_process_that_cannot_be_looked_at_does_not_end_us(pid: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "pidfd_open", raising=False)
    assert watch._is_alive(pid)


@TOLD_BY_THE_SYSTEM
def test_the_signal_of_a_thread_that_ended_is_no_reason_to_leave(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "_EVERY_S", NEVER_S)
    looks: list[None] = []
    returned: list[None] = []

    async def watch_it() -> None:
        await watch.until_orphaned(os.getppid(), lambda: looks.append(None))
        returned.append(None)

    async def main() -> None:
        with anyio.fail_after(PATIENCE_S):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(watch_it)
                await anyio.wait_all_tasks_blocked()
                for round_ in range(3):
                    os.kill(os.getpid(), signal.SIGURG)
                    while len(looks) < round_ + 2:
                        await anyio.sleep(0)
                await anyio.wait_all_tasks_blocked()
                assert not returned
                tasks.cancel_scope.cancel()

    anyio.run(main)


@TOLD_BY_THE_SYSTEM
@pytest.mark.parametrize("thread_ends_first", [False, True], ids=["main thread", "a thread that ended"])
def test_the_death_of_a_parent_is_noticed_without_looking(thread_ends_first: bool) -> None:
    child = (
        "import anyio, os, sys\n"
        "from mlx_sidecar.front.wire import shutdown_triggers as watch\n"
        f"watch._EVERY_S = {NEVER_S}\n"
        "async def main():\n"
        "    parent = os.getppid()\n"
        "    async with anyio.create_task_group() as tasks:\n"
        "        tasks.start_soon(watch.until_orphaned, parent, lambda: None)\n"
        "        await anyio.wait_all_tasks_blocked()\n"
        "        print('watching', flush=True)\n"
        "anyio.run(main)\n"
        "print('left', flush=True)\n"
    )
    parent = (
        "import os, subprocess, sys, threading\n"
        f"def start(): subprocess.Popen([sys.executable, '-c', {child!r}])\n"
        + (
            "thread = threading.Thread(target=start); thread.start(); thread.join()\n"
            if thread_ends_first
            else "start()\n"
        )
        + "os.close(1)\n"  # so that the child's end is the end of the pipe
        "input()\n"
    )
    command, pipe = [sys.executable, "-c", parent], subprocess.PIPE
    with TemporaryFile() as stderr, subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=stderr) as process:
        assert process.stdout

        def said() -> tuple[bytes, str]:
            """The child's next line, none if it has ended, and its complaints."""
            assert process.stdout
            line = process.stdout.readline()
            stderr.seek(0)
            return line, stderr.read().decode()

        assert said() == (b"watching\n", "")
        process.kill()
        assert said() == (b"left\n", "")
