"""The engine process inherits its link and little else, and its end is told in words."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlx_sidecar.config import Config
from mlx_sidecar.front.supervision.engine_process import EngineProcess, engine_command, environment, spawn
from mlx_sidecar.front.supervision.private_folder import private_folder
from mlx_sidecar.link.codec import Decoder
from mlx_sidecar.link.engine_config import EngineConfig
from mlx_sidecar.link.heartbeat_page import HeartbeatPage
from mlx_sidecar.link.messages import Ready
from tests.support.link import feed

SECRETS = ("HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "OPENAI_API_KEY", "NVIDIA_API_KEY", "MLX_HUB_TOKEN", "SSH_AUTH_SOCK")
NEEDED = ("PATH", "HOME", "LC_ALL", "PYTHONPATH", "OPENBLAS_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "HF_HUB_OFFLINE")
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
NAMES = st.sampled_from([*SECRETS, *NEEDED]) | st.text(min_size=1)


@given(st.dictionaries(NAMES, st.text()))
def test_the_engine_is_told_what_it_needs_and_no_secret(of: dict[str, str]) -> None:
    passed = environment(of)
    assert passed.items() <= {**of, "PYTHONUNBUFFERED": "1"}.items()
    assert not passed.keys() & set(SECRETS)
    assert of.keys() & set(NEEDED) == passed.keys() & set(NEEDED)


@contextmanager
def running(config: Config) -> Iterator[tuple[EngineProcess, Ready]]:
    """A real engine that takes work, and its messages."""
    engine = spawn(config)
    try:
        decoder: Decoder[Ready] = Decoder(Ready)
        messages: list[Ready] = []
        while not messages:
            data = engine.link.recv(1 << 16)
            assert data, engine.exit_reason
            messages = feed(decoder, data)
        yield engine, messages[0]
    finally:
        engine.link.close()
        engine.kill()
        engine.process.wait()
        engine.page.close()


@LINUX
def test_an_engine_whose_temporary_folder_cannot_be_used_gets_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setenv("TMPDIR", "/nowhere")
    with running(Config(engine="fake")) as (_, ready):
        entries = Path("/proc", str(ready.pid), "environ").read_text().split("\0")
        [folder] = [entry.removeprefix("TMPDIR=") for entry in entries if entry.startswith("TMPDIR=")]
        assert Path(folder).is_dir()


@LINUX
def test_the_engine_process_inherits_two_descriptors_and_the_environment_it_needs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in SECRETS:
        monkeypatch.setenv(name, "secret")
    ours, theirs = socket.socketpair()
    os.set_inheritable(ours.fileno(), True)  # as a host may have left one of its own
    with ours, theirs, running(Config(engine="fake")) as (_, ready):
        proc = Path("/proc", str(ready.pid))
        told = dict(entry.split("=", 1) for entry in (proc / "environ").read_text().split("\0") if entry)
        folders = {name: told.pop(name) for name in ("TMPDIR", "TEMP", "TMP")}
        assert set(folders.values()) == {private_folder()}
        assert told == {name: value for name, value in environment(os.environ).items() if name not in folders}
        opened = {int(entry.name): str(entry.readlink()) for entry in (proc / "fd").iterdir()}
        assert opened[0] == "/dev/null"
        assert opened[1] == opened[2]
        inherited = {fd: target.split(":")[0] for fd, target in opened.items() if fd > 2}
        assert sorted(inherited.values()) == ["/memfd", "/memfd", "socket"]  # mmap keeps a copy of the page's
        flags = [(proc / "fdinfo" / str(fd)).read_text().split("flags:")[1].split()[0] for fd in inherited]
        assert all(int(flag, 8) & os.O_CLOEXEC for flag in flags)  # its own children get neither


def test_the_engine_is_told_every_option_of_its_own_and_none_of_the_fronts() -> None:
    config = Config(numerics="exact", cache_limit_bytes=0, cache_dir="/caches", stall_after_s=3.0, batch_limit=7)
    command = engine_command(config.of_engine, 3, 4)
    told = msgspec.json.decode(command[command.index("--config") + 1], type=EngineConfig)
    assert told == config.of_engine
    assert told == EngineConfig(numerics="exact", cache_limit_bytes=0, cache_dir="/caches", stall_after_s=3.0)


def test_an_engine_notes_on_the_page_it_was_given() -> None:
    with running(Config(engine="fake")) as (engine, ready):
        assert engine.page.read().taken == 0
        assert ready.pid == engine.process.pid


def test_an_engine_whose_front_is_gone_before_it_begins_leaves_by_itself() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        command = [
            sys.executable,
            "-m",
            "mlx_sidecar.engine",
            "--fd",
            str(theirs.fileno()),
            "--config",
            '{"engine": "fake"}',
        ]
        path = os.pathsep.join(path for path in sys.path if path)
        env = {**environment(os.environ), "PYTHONPATH": path}
        done = subprocess.run([*command, "--parent", "0"], pass_fds=[theirs.fileno()], env=env, timeout=60)
        assert done.returncode == 0


def test_the_working_directory_is_not_searched_for_modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("argparse", "hashlib", "platform"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('not the module that was meant')")
    monkeypatch.chdir(tmp_path)
    with running(Config(engine="fake")) as (_, ready):
        assert ready.backend == "fake"


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import os; os._exit(70)", "exited with status 70"),
        (f"import os; os.kill(os.getpid(), {int(signal.SIGKILL)})", "killed by signal 9 (SIGKILL)"),
    ],
)
def test_an_end_is_told_in_words(code: str, said: str) -> None:
    ours, theirs = socket.socketpair()
    page = HeartbeatPage.create()
    with ours, theirs, subprocess.Popen([sys.executable, "-Sc", code]) as process:
        process.wait()
        assert EngineProcess(process, ours, page).exit_reason == said
    page.close()
