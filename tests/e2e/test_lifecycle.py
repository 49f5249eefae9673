"""A sidecar begins and ends, and leaves nothing behind: shells, signals, parents that die, readers that leave."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.support.byte_host import PATIENCE_S
from tests.support.frames import check_outgoing
from tests.support.sidecar import ROOT, Sidecar, sidecar

SERVE = (sys.executable, "-m", "mlx_sidecar", "serve", "--engine", "fake")
SLOW = {"model": "fake?tokens=1000&delay_ms=20", "prompt": "x", "stream": "s"}


def engine_of(process: Sidecar) -> psutil.Process:
    process.initialize()
    process.notification("engine/state", state="ready")
    return psutil.Process(process.engine_pid())


def assert_gone(*processes: psutil.Process) -> None:
    _, alive = psutil.wait_procs(list(processes), timeout=PATIENCE_S)
    assert not [process for process in alive if process.status() != psutil.STATUS_ZOMBIE]


def test_a_line_piped_in_by_a_shell_is_answered_and_the_status_is_0() -> None:
    request = {"jsonrpc": "2.0", "id": 1, "method": "generate", "params": {"model": "fake", "prompt": "Hello"}}
    done = subprocess.run(SERVE, input=json.dumps(request).encode() + b"\n", capture_output=True, timeout=PATIENCE_S)
    assert done.returncode == 0
    frames = [json.loads(line) for line in done.stdout.splitlines()]
    for frame in frames:
        check_outgoing(frame)
    (answer,) = [frame for frame in frames if frame.get("id") == 1]
    assert answer["result"]["finish_reason"] == "stop"


ONE = b'{"jsonrpc":"2.0","id":1,"method":"generate","params":{"model":"fake","prompt":"Hello"}}\n'


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
@pytest.mark.parametrize("stdout", ["/dev/full", "closed"])
def test_an_answer_that_cannot_be_written_makes_the_status_1(stdout: str) -> None:
    where = ">&-" if stdout == "closed" else f">{stdout}"
    shell = ["sh", "-c", f'exec "$@" {where}', "sh", *SERVE]
    done = subprocess.run(shell, input=ONE, capture_output=True, timeout=PATIENCE_S)
    assert done.returncode == 1
    assert b"stdout cannot be written" in done.stderr
    assert b"Traceback" not in done.stderr


def test_a_reader_that_leaves_after_the_input_has_ended_is_no_failure() -> None:
    read, write = os.pipe()
    process = subprocess.Popen(SERVE, stdin=subprocess.PIPE, stdout=write)
    os.close(write)
    slow = {"model": "fake?tokens=100000&delay_ms=1", "prompt": "x", "stream": "s"}
    assert process.stdin is not None
    request = {"jsonrpc": "2.0", "id": 1, "method": "generate", "params": slow}
    process.stdin.write(json.dumps(request).encode() + b"\n")
    process.stdin.close()
    os.read(read, 1)
    os.close(read)
    assert process.wait(PATIENCE_S) == 0


@pytest.mark.skipif(sys.platform != "linux", reason="limits are enforced differently elsewhere")
@pytest.mark.parametrize(
    ("name", "limit", "hint"), [("RLIMIT_NOFILE", 8, "ulimit -n"), ("RLIMIT_FSIZE", 0, "ulimit -f")]
)
def test_a_limit_that_is_too_low_is_told_in_a_sentence(name: str, limit: int, hint: str) -> None:
    import resource

    def lower() -> None:
        resource.setrlimit(getattr(resource, name), (limit, limit))

    done = subprocess.run(SERVE, input=ONE, capture_output=True, timeout=PATIENCE_S, preexec_fn=lower)
    assert done.returncode == 1
    assert hint in done.stderr.decode()
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("mode", [None, 0o666])
def test_a_trace_is_its_owners_alone_whatever_the_umask_and_whatever_it_was(tmp_path: Path, mode: int | None) -> None:
    trace = tmp_path / "trace"
    if mode is not None:
        trace.touch()
        trace.chmod(mode)
    command = [*SERVE, "--trace", str(trace)]
    done = subprocess.run(command, input=ONE, capture_output=True, timeout=PATIENCE_S, preexec_fn=lambda: os.umask(0))
    assert done.returncode == 0
    assert trace.read_bytes().startswith(b"[")
    assert trace.stat().st_mode & 0o777 == 0o600


def test_shutdown_waits_for_what_runs_and_exit_is_0_after_it() -> None:
    with sidecar("--engine", "fake") as process:
        running = process.request("generate", {**SLOW, "model": "fake?tokens=30&delay_ms=5"})
        process.notification("stream/delta", stream="s")
        shutdown = process.request("shutdown")
        assert process.result(running)["finish_reason"] == "stop"
        assert process.result(shutdown) == {}
        process.notify("exit")
        assert process.exit_status() == 0


def test_exit_without_shutdown_is_1() -> None:
    with sidecar("--engine", "fake") as process:
        engine = engine_of(process)
        process.notify("exit")
        assert process.exit_status() == 1
        assert_gone(engine)


def test_end_of_input_lets_what_runs_end_if_somebody_still_reads() -> None:
    with sidecar("--engine", "fake") as process:
        engine = engine_of(process)
        running = process.request("generate", {**SLOW, "model": "fake?tokens=50&delay_ms=5"})
        process.close_stdin()
        assert process.result(running)["finish_reason"] == "stop"
        assert process.exit_status() == 0
        assert_gone(engine)


@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_cancels_answers_and_ends(signal_number: signal.Signals) -> None:
    with sidecar("--engine", "fake") as process:
        engine = engine_of(process)
        running = process.request("generate", SLOW)
        process.notification("stream/delta", stream="s")
        process.process.send_signal(signal_number)
        assert process.result(running)["finish_reason"] == "cancelled"
        assert process.exit_status() == 128 + signal_number
        assert_gone(engine)


def close_both(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin
    assert process.stdout
    process.stdout.close()
    process.stdin.close()


def kill(process: subprocess.Popen[bytes]) -> None:
    process.kill()


@pytest.mark.parametrize("model", [SLOW["model"], "fake?tokens=1000&hang_after=3"], ids=["busy", "hung"])
@pytest.mark.parametrize("end", [close_both, kill], ids=["pipes closed", "front killed"])
def test_with_nobody_left_to_read_both_processes_go_whatever_runs(
    end: Callable[[subprocess.Popen[bytes]], None], model: str
) -> None:
    params = {**SLOW, "model": model}
    with subprocess.Popen(SERVE, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin
        assert process.stdout
        process.stdin.write(
            json.dumps({"jsonrpc": "2.0", "id": 1, "method": "generate", "params": params}).encode() + b"\n"
        )
        process.stdin.flush()
        while b"stream/delta" not in process.stdout.readline():
            pass
        family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        assert len(family) == 2
        end(process)
        assert_gone(*family)


def test_the_death_of_the_process_named_in_initialize_ends_the_sidecar() -> None:
    with (
        subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as named,
        sidecar("--engine", "fake") as process,
    ):
        process.initialize(process_id=named.pid)
        named.kill()
        named.wait()
        process.exit_status()


def test_a_stray_print_goes_to_stderr_and_never_to_the_wire() -> None:
    code = (
        "import sys\n"
        "from mlx_sidecar.front.wire import stdio\n"
        "stdio.claim()\n"
        "print('stray')\n"
        "import os; os.write(1, b'raw'); os.system('echo from a child')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, cwd=ROOT, env={**os.environ})
    assert done.stdout == b""
    assert all(word in done.stderr for word in (b"stray", b"raw", b"from a child"))


def young_engine_of(process: Sidecar) -> psutil.Process:
    """The engine's process, from its very start."""
    front = psutil.Process(process.process.pid)
    while True:
        for child in front.children():
            if "mlx_sidecar.engine" in child.cmdline():  # and no longer a copy of the front
                return child


def test_an_engine_that_is_still_starting_does_not_hold_up_initialize() -> None:
    with sidecar() as process:
        engine = young_engine_of(process)
        engine.suspend()
        try:
            assert process.initialize()["instance"]
            assert process.notification("engine/state")["state"] == "starting"
        finally:
            engine.resume()
        process.notification("engine/state", state="ready")
