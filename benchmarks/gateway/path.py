"""The way of a token from the engine to the socket: what each process on it spends, for events of three sizes."""

from __future__ import annotations

import asyncio
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple

from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from tests.support import random_models, text_models

from ..measure import Row
from ..serving.processes import HttpProcess
from .allocations import compiled
from .streams import Asked, Tally, opened

if TYPE_CHECKING:
    from .__main__ import Form

TEXT_BYTES = (13, 2500, 10_000)
STREAMS = 8
FLAMES = Path(__file__).parents[2] / "docs" / "plots" / "token-path.svg"
_MOST_TOKENS = 3000
_VOCABULARY = 300
_WIDTH, _LAYERS = 512, 8  # so that a step takes milliseconds, and each token is an event of its own

# Each Python process of the tree runs this first. Another process reads the two numbers while it works.
_COUNTING = """\
import ctypes, mmap, os
_file = os.open(os.path.join({folder!r}, str(os.getpid())), os.O_RDWR | os.O_CREAT, 0o600)
os.ftruncate(_file, 16)
_shared = mmap.mmap(_file, 16)
_library = ctypes.PyDLL({library!r})
_library.start_counting_in(ctypes.byref(ctypes.c_ulonglong.from_buffer(_shared)))
"""


class Spent(NamedTuple):
    """Use of one process until now: nanoseconds, allocations and their bytes, bytes that it read and wrote."""

    cpu_ns: int
    allocations: int
    allocated: int
    read: int
    written: int

    def since(self, before: Spent) -> Spent:
        return Spent(*(late - soon for late, soon in zip(self, before, strict=True)))


class Measured(NamedTuple):
    """Events of a run, the bytes of one on the socket, and the use of each process."""

    events: int
    written: float
    spent: Mapping[str, Spent]


@dataclass(frozen=True)
class Tree:
    """The processes of a gateway, by their part in it."""

    port: int
    pids: Mapping[str, int]
    counts: Path | None

    def spent(self) -> dict[str, Spent]:
        return {part: Spent(_cpu_ns(pid), *self._allocated(pid), *_moved(pid)) for part, pid in self.pids.items()}

    def _allocated(self, pid: int) -> tuple[int, int]:
        if self.counts is None:
            return 0, 0
        counted = memoryview((self.counts / str(pid)).read_bytes()).cast("Q")
        return counted[0], counted[1]


def run(form: Form) -> list[Row]:
    """Eight streams of a random model whose tokens are texts of one length, each an event of chat completions.

    Times and bytes moved are of one run, allocations of another, because counting takes time. Time is that of all
    threads of a process, of the engine with the model's own. Bytes that Python allocates for an event are the most that
    it can have copied; bytes read and written are those of the calls ``read`` and ``write``. A delta has 4 KiB of text
    at most, so that a longer token is several events. The flame graph of all three is docs/plots/token-path.svg.
    """
    with tempfile.TemporaryDirectory() as folder:
        return asyncio.run(_run(form, Path(folder)))


async def _run(form: Form, folder: Path) -> list[Row]:
    rows: list[Row] = []
    library = compiled(folder)
    for size in TEXT_BYTES:
        model = folder / f"words-of-{size}"
        _write_model(model, size)
        timed = [await _measured(model, form, None) for _ in range(form.rounds)]
        rows += _rows(size, timed, await _measured(model, form, library))
    if not form.quick:
        await _draw_flames(folder / f"words-of-{TEXT_BYTES[0]}")
    return rows


def _write_model(directory: Path, size: int) -> None:
    kind = f"words of {size}"
    random_models.CONFIGS[kind] = {
        **random_models.CONFIGS["llama"],
        "hidden_size": _WIDTH,
        "intermediate_size": 4 * _WIDTH,
        "num_hidden_layers": _LAYERS,
    }
    random_models.write_model(directory, kind)
    words = {f"{number:04d}{'abcdefgh ' * size}"[:size]: number for number in range(_VOCABULARY - 1)}
    tokenizer = Tokenizer(models.WordLevel({**words, "<end>": _VOCABULARY - 1}, unk_token=next(iter(words))))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.decoder = decoders.Fuse()
    tokenizer.add_special_tokens(["<end>"])
    template = "{% for message in messages %}{{ message.content }}{% endfor %}"
    text_models.write_model(directory, tokenizer, {"eos_token": "<end>", "chat_template": template})


async def _measured(model: Path, form: Form, library: Path | None) -> Measured:
    seconds = 0.5 if form.quick else 2.0
    async with _tree(model, library) as tree, _streams(tree.port) as tally:
        await asyncio.sleep(seconds / 4)
        before, events, written = tree.spent(), tally.events, tally.bytes
        await asyncio.sleep(seconds)
        after, events, written = tree.spent(), tally.events - events, tally.bytes - written
        assert tally.lost is None, tally.lost
    assert events > 0, "no event came"
    return Measured(events, written / events, {part: after[part].since(before[part]) for part in after})


@asynccontextmanager
async def _streams(port: int) -> AsyncIterator[Tally]:
    body: dict[str, Any] = {
        "model": "words",
        "messages": [{"role": "user", "content": "Hello"}],
        "stream": True,
        "max_tokens": _MOST_TOKENS,
        "logit_bias": {str(_VOCABULARY - 1): -100},
    }
    async with opened(port, Asked("/v1/chat/completions", body, STREAMS)) as tally:
        yield tally


class _Gateway(HttpProcess):
    def __init__(self, environment: Mapping[str, str]) -> None:
        super().__init__()
        self._environment = environment

    @property
    def pid(self) -> int:
        return self._process.pid

    async def _spawn(self, command: tuple[str, ...], log: IO[bytes]) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(*command, stderr=log, env=dict(self._environment))


@asynccontextmanager
async def _tree(model: Path, library: Path | None) -> AsyncIterator[Tree]:
    with tempfile.TemporaryDirectory() as folder:
        environment = dict(os.environ)
        if library is not None:
            code = _COUNTING.format(folder=folder, library=str(library))
            Path(folder, "sitecustomize.py").write_text(code, encoding="utf-8")
            environment["PYTHONPATH"] = folder
        gateway = _Gateway(environment)
        listen = f"127.0.0.1:{gateway.port}"
        await gateway.start(
            *(sys.executable, "-P", "-m", "mlx_sidecar", "gateway", "--listen", listen, "--model", f"words={model}")
        )
        try:
            yield Tree(gateway.port, _parts(gateway.pid), None if library is None else Path(folder))
        finally:
            await gateway.stop()


def _parts(gateway: int) -> dict[str, int]:
    """The processes on the way: the gateway, its sidecar's front, and that one's engine."""
    [front] = _children(gateway)
    # The other children of a front are its text process and its guard; the engine alone has much memory.
    return {"engine": max(_children(front), key=_resident), "front": front, "gateway": gateway}


def _children(pid: int) -> list[int]:
    threads = Path(f"/proc/{pid}/task").iterdir()
    return [int(child) for thread in threads for child in (thread / "children").read_text().split()]


def _resident(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1])


def _cpu_ns(pid: int) -> int:
    """The processor time of all threads that there are."""
    threads = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads)


def _moved(pid: int) -> tuple[int, int]:
    """The bytes that its reading and writing calls have moved."""
    lines = Path(f"/proc/{pid}/io").read_text().splitlines()
    figures = dict(line.split(": ") for line in lines)
    return int(figures["rchar"]), int(figures["wchar"])


def _rows(size: int, timed: list[Measured], counted: Measured) -> list[Row]:
    rows = []
    for part in counted.spent:
        each = [measured.spent[part] for measured in timed]
        events = [measured.events for measured in timed]
        ns, read, written = (
            statistics.median(getattr(spent, name) / count for spent, count in zip(each, events, strict=True))
            for name in ("cpu_ns", "read", "written")
        )
        allocated = counted.spent[part]
        rows.append(
            Row(
                f"{size:,} B of text ({timed[0].written:,.0f} on the socket), {part}",
                f"{ns:,.0f} ns; {allocated.allocations / counted.events:,.0f} allocations of "
                f"{allocated.allocated / counted.events:,.0f} B together; {read:,.0f} B read, {written:,.0f} written",
                "",
            )
        )
    return rows


async def _draw_flames(model: Path) -> None:
    """Draw where the time of all three goes, by py-spy, if it is there."""
    if (program := shutil.which("py-spy")) is None:
        print("no flame graph is drawn: pip install py-spy", file=sys.stderr)
        return
    async with _tree(model, None) as tree, _streams(tree.port):
        began = time.monotonic()
        command = [program, "record", "--subprocesses", "--duration", "5", "--rate", "500", "--function"]
        options = ["--pid", str(tree.pids["gateway"]), "--format", "flamegraph", "--output", str(FLAMES)]
        await asyncio.to_thread(subprocess.run, [*command, *options], check=True, stdout=subprocess.DEVNULL)
        drawn = FLAMES.read_text(encoding="utf-8")
        for place in (Path(sys.executable).parent, Path(program).parent, FLAMES.parent, model.parent):
            drawn = drawn.replace(f"{place}/", "")
        FLAMES.write_text(drawn, encoding="utf-8")
        print(f"{FLAMES.name} was drawn in {time.monotonic() - began:.0f} s", file=sys.stderr)
