"""Front and engine go and leave no file behind, however the host dies and whatever the engine is doing."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from benchmarks.faults.mortal import Mortal, Plan, alive
from mlx_sidecar.front.supervision.engine_process import EngineProcess
from mlx_sidecar.link.heartbeat_page import HeartbeatPage
from tests.support.byte_host import PATIENCE_S
from tests.support.sidecar import ROOT

HANGS = "fake?tokens=1000&hang_after=3"
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a process with its parent")

Prepare = Callable[[Mortal], object]


def assert_gone(mortal: Mortal, folder: Path) -> None:
    """Wait for the end of front and engine. Files that mlx compiled stay for its next start."""
    until = time.monotonic() + PATIENCE_S
    while running := mortal.sidecar():
        assert time.monotonic() < until, running
        psutil.wait_procs(running, timeout=0.05)
    assert [path.name for path in folder.iterdir() if path.name != "mlx"] == []


def nothing(mortal: Mortal) -> None:
    mortal.engine()


def stop_engine(mortal: Mortal) -> None:
    mortal.engine().suspend()


def kill_engine(mortal: Mortal) -> None:
    mortal.engine().kill()


def wait_for_another_engine(mortal: Mortal) -> None:
    killed = mortal.engine()
    killed.kill()
    while mortal.engine() == killed:
        pass


def kill_host(mortal: Mortal) -> None:
    mortal.host.kill()


def kill_front(mortal: Mortal) -> None:
    mortal.front.kill()


def close_pipes(mortal: Mortal) -> None:
    mortal.tell("close")


STATES = [
    pytest.param(Plan(until="spawned"), nothing, id="starting"),
    pytest.param(Plan(until="ready"), nothing, id="ready"),
    pytest.param(Plan(), nothing, id="busy"),
    pytest.param(Plan(reads=False), nothing, id="busy and nobody reads"),
    pytest.param(Plan(model=HANGS), nothing, id="hung"),
    pytest.param(Plan(), stop_engine, id="stopped"),
]


@pytest.mark.parametrize(
    ("plan", "prepare"),
    [
        *STATES,
        pytest.param(Plan(until="spawned"), stop_engine, id="stopped while it starts"),
        pytest.param(Plan(), kill_engine, id="dead"),
        pytest.param(Plan(), wait_for_another_engine, id="starting again"),
        pytest.param(Plan(engine="mlx", until="spawned"), nothing, id="importing mlx"),
        pytest.param(Plan(engine="mlx", until="ready", model="pocket"), nothing, id="loading"),
    ],
)
def test_nothing_outlives_a_host_that_is_killed_whatever_the_engine_is_doing(
    plan: Plan, prepare: Prepare, tmp_path: Path
) -> None:
    with Mortal(plan, tmp_path) as mortal:
        prepare(mortal)
        kill_host(mortal)
        assert_gone(mortal, tmp_path)


@pytest.mark.parametrize("model", [Plan.model, HANGS], ids=["busy", "hung"])
@pytest.mark.parametrize(
    "plan",
    [
        pytest.param(Plan(in_thread=True), id="from a thread"),
        pytest.param(Plan(as_daemon=True), id="as a daemon"),
        pytest.param(Plan(leaks=True), id="leaking its pipe ends"),
        pytest.param(Plan(in_thread=True, as_daemon=True, leaks=True, reads=False), id="all of it"),
    ],
)
def test_nothing_outlives_a_host_that_is_killed_however_it_started_the_sidecar(
    plan: Plan, model: str, tmp_path: Path
) -> None:
    with Mortal(replace(plan, model=model), tmp_path) as mortal:
        kill_host(mortal)
        assert_gone(mortal, tmp_path)
        assert mortal.leak is None or alive(mortal.leak)


@pytest.mark.parametrize("prepare", [nothing, stop_engine], ids=["hung", "stopped"])
def test_nothing_outlives_the_end_of_input_when_nobody_reads_and_the_engine_does_not_answer(
    prepare: Prepare, tmp_path: Path
) -> None:
    with Mortal(Plan(model=HANGS, reads=False), tmp_path) as mortal:
        prepare(mortal)
        close_pipes(mortal)
        assert_gone(mortal, tmp_path)
        assert alive(mortal.host)


def test_the_end_of_the_thread_that_started_us_is_not_the_end_of_the_host(tmp_path: Path) -> None:
    with Mortal(Plan(until="ready", in_thread=True), tmp_path) as mortal:
        family = mortal.sidecar()
        # The system tells of it about now; a look at the parent finds it alive.
        mortal.tell("ping")
        assert mortal.sidecar() == family
        assert len(family) == 2


@pytest.mark.parametrize(
    ("plan", "prepare"),
    [
        *(state for state in STATES if state.id != "stopped"),
        pytest.param(Plan(), stop_engine, id="stopped", marks=LINUX),
        pytest.param(Plan(engine="mlx", until="spawned"), nothing, id="importing mlx"),
    ],
)
def test_an_engine_does_not_outlive_a_front_that_is_killed_whatever_it_is_doing(
    plan: Plan, prepare: Prepare, tmp_path: Path
) -> None:
    with Mortal(plan, tmp_path) as mortal:
        prepare(mortal)
        kill_front(mortal)
        assert_gone(mortal, tmp_path)


def test_an_engine_whose_front_died_before_it_looked_leaves() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as front:
        front.wait()
    ours, theirs = socket.socketpair()
    with ours, theirs:  # open until the end: only the look at its parent can tell it
        command = [sys.executable, "-m", "mlx_sidecar.engine", "--fd", str(theirs.fileno())]
        command += ["--config", '{"engine": "fake"}', "--parent", str(front.pid)]
        with subprocess.Popen(command, pass_fds=[theirs.fileno()], cwd=ROOT) as engine:
            assert engine.wait(PATIENCE_S) == 0


def test_what_an_engine_has_started_ends_with_it() -> None:
    script = "sleep 1000 & echo; wait"
    with subprocess.Popen(["sh", "-c", script], stdout=subprocess.PIPE, start_new_session=True) as process:
        assert process.stdout
        assert process.stdout.readline() == b"\n"
        ours, theirs = socket.socketpair()
        page = HeartbeatPage.create()
        with ours, theirs:
            EngineProcess(process, ours, page).kill()
        page.close()
        assert process.stdout.read() == b""  # no process has it any more
