"""Reading and writing descriptors of every kind, by threads."""

from __future__ import annotations

import asyncio
import os
import select
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mlx_sidecar.front.wire.mailbox import Mailbox
from mlx_sidecar.front.wire.reader import CHUNK_BYTES, Reader
from mlx_sidecar.front.wire.stdio import has_ended
from mlx_sidecar.front.wire.writer import Writer

SOON_S = 60.0  # a bound for what must happen, not a measurement


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for fd in ends:
        try:
            os.close(fd)
        except OSError:
            continue  # the test closed it


async def read_all(reader: Reader) -> bytes:
    chunks: list[bytes] = []
    ended = asyncio.Event()
    reader.attach(asyncio.get_running_loop(), chunks.append, ended.set)
    await asyncio.wait_for(ended.wait(), SOON_S)
    return b"".join(chunks)


def test_what_was_read_before_there_was_a_loop_comes_first(pipe: tuple[int, int]) -> None:
    reader = Reader(pipe[0])
    reader.start()
    os.write(pipe[1], b"early ")
    os.write(pipe[1], b"late")
    os.close(pipe[1])
    assert asyncio.run(read_all(reader)) == b"early late"


@pytest.mark.parametrize("kind", ["file", "null", "socket", "non-blocking pipe", "terminal"])
def test_input_of_any_kind_is_read_to_its_end(kind: str, tmp_path: Path) -> None:
    data = b"x" * (3 * CHUNK_BYTES + 1)
    fd, feed = {
        "file": lambda: _file(tmp_path, data),
        "null": lambda: (os.open(os.devnull, os.O_RDONLY), _nothing),
        "socket": lambda: _socket(data),
        "non-blocking pipe": lambda: _non_blocking(data),
        "terminal": _terminal,
    }[kind]()
    feeder = threading.Thread(target=feed)
    feeder.start()
    reader = Reader(fd)
    reader.start()
    got = asyncio.run(read_all(reader))
    feeder.join(SOON_S)
    assert got == {"null": b"", "terminal": b"line\n"}.get(kind, data)


def _file(tmp_path: Path, data: bytes) -> tuple[int, Callable[[], object]]:
    path = tmp_path / "in"
    path.write_bytes(data)
    return os.open(path, os.O_RDONLY), _nothing


def _socket(data: bytes) -> tuple[int, Callable[[], object]]:
    ours, theirs = socket.socketpair()

    def feed() -> None:
        theirs.sendall(data)
        theirs.close()

    return ours.detach(), feed


def _non_blocking(data: bytes) -> tuple[int, Callable[[], object]]:
    ours, theirs = os.pipe()
    os.set_blocking(ours, False)

    def feed() -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(theirs, view) :]
        os.close(theirs)

    return ours, feed


def _terminal() -> tuple[int, Callable[[], object]]:
    main, ours = os.openpty()
    os.write(main, b"line\n\x04")  # a line, and end of input
    return ours, _nothing


def _nothing() -> None:
    return None


def test_a_reader_does_not_run_ahead_of_a_loop_that_is_busy(pipe: tuple[int, int]) -> None:
    reader = Reader(pipe[0])
    reader.start()
    os.set_blocking(pipe[1], False)
    # No loop is attached, so after a bounded number of chunks the pipe stays full.
    total = 0
    poll = select.poll()
    poll.register(pipe[1], select.POLLOUT)
    while total < 100 * CHUNK_BYTES and poll.poll(300):
        total += os.write(pipe[1], b"x" * CHUNK_BYTES)
    assert total < 40 * CHUNK_BYTES
    os.close(pipe[1])
    assert len(asyncio.run(read_all(reader))) == total


def test_a_held_reader_goes_on_when_it_is_released(pipe: tuple[int, int]) -> None:
    async def main() -> list[bytes]:
        reader, chunks, ended = Reader(pipe[0]), list[bytes](), asyncio.Event()
        reader.hold(True)
        reader.start()
        reader.attach(asyncio.get_running_loop(), chunks.append, ended.set)
        os.write(pipe[1], b"waits")
        os.close(pipe[1])
        await asyncio.sleep(0)
        assert chunks == []
        reader.hold(False)
        await asyncio.wait_for(ended.wait(), SOON_S)
        return chunks

    assert asyncio.run(main()) == [b"waits"]


def as_lines(body: bytes) -> bytes:
    return body + b"\n"


async def write(fd: int, bodies: list[bytes], read: Callable[[], bytes]) -> tuple[bool, bytes]:
    """Put all bodies at once, read in another thread; whether all was written, and the bytes that arrived."""
    mailbox = Mailbox()
    writer = Writer(fd, mailbox)
    writer.frame = as_lines
    writer.start(asyncio.get_running_loop(), _nothing)
    for body in bodies:
        mailbox.put(body)
    reading = asyncio.get_running_loop().run_in_executor(None, read)
    await asyncio.sleep(0)
    done = await asyncio.get_running_loop().run_in_executor(None, writer.close, SOON_S)
    os.close(fd)
    return done, await reading


def read_to_end(fd: int) -> bytes:
    return b"".join(iter(lambda: os.read(fd, 1000), b""))


@pytest.mark.parametrize("blocking", [True, False])
@pytest.mark.parametrize("kind", ["pipe", "socket"])
def test_everything_is_written_in_order_to_a_slow_reader(kind: str, blocking: bool) -> None:
    if kind == "pipe":
        theirs, ours = os.pipe()
    else:
        theirs, ours = (end.detach() for end in socket.socketpair())
    os.set_blocking(ours, blocking)
    bodies = [b"%d" % number * 500 for number in range(2000)]
    done, got = asyncio.run(write(ours, bodies, lambda: read_to_end(theirs)))
    assert done
    assert got == b"".join(map(as_lines, bodies))


def test_a_regular_file_can_be_written(tmp_path: Path) -> None:
    path = tmp_path / "out"
    fd = os.open(path, os.O_WRONLY | os.O_CREAT)
    assert asyncio.run(write(fd, [b"1", b"2"], lambda: b""))[0]
    assert path.read_bytes() == b"1\n2\n"


def test_nothing_is_written_before_the_framing_is_known(pipe: tuple[int, int]) -> None:
    async def main() -> None:
        mailbox = Mailbox()
        writer = Writer(pipe[1], mailbox)
        writer.start(asyncio.get_running_loop(), _nothing)
        mailbox.put(b"early")
        await asyncio.sleep(0)
        assert select.select([pipe[0]], [], [], 0)[0] == []
        writer.frame = as_lines
        writer.flush()
        assert os.read(pipe[0], 100) == b"early\n"
        assert writer.close(SOON_S)

    asyncio.run(main())


def test_a_small_answer_is_written_in_the_turn_that_made_it(pipe: tuple[int, int]) -> None:
    async def main() -> None:
        mailbox = Mailbox()
        writer = Writer(pipe[1], mailbox)
        writer.frame = as_lines
        writer.start(asyncio.get_running_loop(), _nothing)
        mailbox.put(b"answer")
        writer.flush()
        assert select.select([pipe[0]], [], [], 0)[0]
        writer.close(SOON_S)

    asyncio.run(main())


def test_a_delayed_stream_is_written_when_it_is_due(pipe: tuple[int, int]) -> None:
    class Once:
        text: bytes | None = b"delta"

        def take(self) -> bytes | None:
            text, self.text = self.text, None
            return text

    async def main() -> bytes:
        loop = asyncio.get_running_loop()
        mailbox = Mailbox()
        writer = Writer(pipe[1], mailbox)
        writer.frame = as_lines
        writer.start(loop, _nothing)
        mailbox.announce(Once(), not_before=loop.time() + 0.02)
        got = await loop.run_in_executor(None, os.read, pipe[0], 100)
        writer.close(SOON_S)
        return got

    assert asyncio.run(main()) == b"delta\n"


def test_a_host_that_stops_reading_does_not_hold_up_the_end(pipe: tuple[int, int]) -> None:
    async def main() -> bool:
        mailbox = Mailbox()
        writer = Writer(pipe[1], mailbox)
        writer.frame = as_lines
        writer.start(asyncio.get_running_loop(), _nothing)
        mailbox.put(b"x" * 10**6)
        return writer.close(0.05)

    assert asyncio.run(main()) is False


@pytest.mark.parametrize("size", [10, 10**6])
def test_a_reader_that_is_gone_is_reported_once(pipe: tuple[int, int], size: int) -> None:
    async def main() -> None:
        broken = asyncio.Event()
        mailbox = Mailbox()
        writer = Writer(pipe[1], mailbox)
        writer.frame = as_lines
        writer.start(asyncio.get_running_loop(), broken.set)
        os.close(pipe[0])
        mailbox.put(b"x" * size)
        await asyncio.wait_for(broken.wait(), SOON_S)
        assert writer.broken
        assert writer.close(SOON_S) is False

    asyncio.run(main())


def test_it_is_noticed_whether_somebody_reads(pipe: tuple[int, int]) -> None:
    async def main() -> None:
        gone = asyncio.Event()
        writer = Writer(pipe[1], Mailbox())
        writer.start(asyncio.get_running_loop(), lambda: None)
        assert writer.somebody_reads
        writer.watch_readers(gone.set)
        os.close(pipe[0])
        await asyncio.wait_for(gone.wait(), SOON_S)
        assert not writer.somebody_reads

    asyncio.run(main())


def test_it_is_noticed_whether_input_has_ended(pipe: tuple[int, int], tmp_path: Path) -> None:
    assert not has_ended(pipe[0])
    os.close(pipe[1])
    assert has_ended(pipe[0])
    with (tmp_path / "empty").open("w+b") as file:  # of a file the system cannot tell
        assert not has_ended(file.fileno())


CLAIM = """
import os, sys
from mlx_sidecar.front.wire.stdio import claim
{before}
wire_in, wire_out = claim()
print("stray print")
os.write(1, b"stray write\\n")
assert os.read(0, 10) == b""
assert not os.get_inheritable(wire_in) and not os.get_inheritable(wire_out)
os.write(wire_out, b"got " + os.read(wire_in, 100))
"""


def run_claim(before: str = "") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-c", CLAIM.format(before=before)],
        input=b"input",
        capture_output=True,
        timeout=SOON_S,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    )


def test_stray_prints_go_to_stderr_and_never_to_the_wire() -> None:
    done = run_claim()
    assert done.stdout == b"got input"
    assert sorted(done.stderr.split(b"\n")) == [b"", b"stray print", b"stray write"]


@pytest.mark.parametrize(("fd", "out"), [(0, b"got "), (1, b""), (2, b"got input")])
def test_a_closed_descriptor_reads_as_empty_or_cannot_be_written(fd: int, out: bytes) -> None:
    done = run_claim(f"os.close({fd})")
    assert done.stdout == out
    assert (b"Bad file descriptor" in done.stderr) == (fd == 1)


def test_claiming_imports_nothing_heavy() -> None:
    code = "import sys; import mlx_sidecar.front.wire.reader; print(*sys.modules)"
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=SOON_S, env=env)
    for heavy in ("asyncio", "pydantic", "jsonrpcserver", "anyio", "mlx_sidecar_protocol"):
        assert heavy not in done.stdout.split()
