"""Adapters of requests: what they cost a batch, what they cost requests without one, and how soon they are there.

    python -m benchmarks.adapters [--only batch,without,attach] [--flat] [--rounds N] [--peer COMMAND]

batch    32 requests with eight adapters of rank 16, four with each, against 32 with one of them, and against none
without  32 requests and one request that name none: beside eight loaded adapters against none loaded, in the same
         sidecar, so that nothing else differs; with ``--peer``, against the ``mlx-sidecar`` of another checkout. Which
         of the two is first alternates
attach   ``adapter/load`` of a file of 10 MB: the engine's time

The model is SmolLM2-135M at 4 bits; with ``--flat`` (``serve --native off``) in float32 by MLX. Adapters are random, of
all linear layers. A speed is that of decoding: tokens behind the first one, by the engine's own time. Ratios are
medians of interleaved rounds.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, NamedTuple

from mlx_sidecar_client import Sidecar
from mlx_sidecar_client.protocol.generate_result import GenerateResult
from tests.support.adapters import shapes_of, write_adapter

from .measure import Row, machine, table
from .serving.figures import ratio

MODEL = Path(__file__).parents[1] / ".venv" / "models" / "smollm2-4bit"
OWN = str(Path(sys.executable).with_name("mlx-sidecar"))
ADAPTERS, ROWS, TOKENS = 8, 32, 64
RANK = 16
ATTACHED_BYTES = 10_000_000


class Setting(NamedTuple):
    """The parameters of a run."""

    rounds: int
    options: tuple[str, ...]
    peer: str | None
    folder: Path


async def spawned(stack: AsyncExitStack, setting: Setting, command: str = OWN) -> Sidecar:
    sidecar = await stack.enter_async_context(Sidecar.spawn(command=command, options=setting.options))
    await sidecar.load(str(MODEL))
    return sidecar


async def with_adapters(stack: AsyncExitStack, setting: Setting) -> Sidecar:
    sidecar = await spawned(stack, setting)
    await load_all(sidecar, setting)
    return sidecar


async def load_all(sidecar: Sidecar, setting: Setting) -> None:
    for number in range(ADAPTERS):
        await sidecar.adapter_load(str(MODEL), f"a{number}", adapter(setting, number, RANK))


async def unload_all(sidecar: Sidecar) -> None:
    for number in range(ADAPTERS):
        await sidecar.adapter_unload(str(MODEL), f"a{number}")


def adapter(setting: Setting, number: int, rank: int) -> Path:
    path = setting.folder / f"{number} of {rank}"
    return path if path.exists() else write_adapter(path, shapes_of(MODEL), rank=rank, seed=number, size=0.01)


async def speed(sidecar: Sidecar, adapters: list[str | None]) -> float:
    """Return the tokens per second of requests that are made at once, one with each of ``adapters``."""

    async def one(number: int, name: str | None) -> GenerateResult:
        prompt = f"Story number {number} begins on a morning in a harbour, where"
        named: dict[str, Any] = {} if name is None else {"adapter": name}
        # A stream can be awaited for its result.
        return await sidecar.generate(str(MODEL), prompt=prompt, max_tokens=TOKENS, ignore_eos=True, **named)

    answers = await asyncio.gather(*(one(number, name) for number, name in enumerate(adapters)))
    return sum((answer.usage.completion_tokens - 1) / (answer.timing.decode_s or 1.0) for answer in answers)


async def batch(setting: Setting) -> list[Row]:
    async with AsyncExitStack() as stack:
        sidecar = await with_adapters(stack, setting)
        eight: list[str | None] = [f"a{number % ADAPTERS}" for number in range(ROWS)]
        ways: list[list[str | None]] = [eight, ["a0"] * ROWS, [None] * ROWS]
        for way in ways:
            await speed(sidecar, way)
        runs = [[await speed(sidecar, way) for way in ways] for _ in range(setting.rounds)]
    mixed, one, none = zip(*runs, strict=True)
    return [
        Row("eight adapters over 32 rows, against one for all", _told(mixed, one), "≥ 0.85×"),
        Row("one adapter for all 32 rows, against none", _told(one, none)),
        Row("eight adapters over 32 rows, against none", _told(mixed, none)),
    ]


async def without(setting: Setting) -> list[Row]:
    async with AsyncExitStack() as stack:
        ours = await spawned(stack, setting)
        peer = ours if setting.peer is None else await spawned(stack, setting, setting.peer)
        what = "the same sidecar with none loaded" if setting.peer is None else "a sidecar of another checkout"
        rows = []
        for count in (1, ROWS):
            numbers = range(setting.rounds + 1)
            runs = [await _without(setting, ours, peer, count, first=number % 2 == 0) for number in numbers]
            name = f"rows without adapter ({count}) beside eight loaded ones, against {what}"
            rows.append(Row(name, _told(*zip(*runs[1:], strict=True)), "≥ 0.99×"))
    return rows


async def _without(setting: Setting, ours: Sidecar, peer: Sidecar, count: int, *, first: bool) -> tuple[float, float]:
    """Return the speeds of ``ours`` beside eight adapters, and of ``peer``, which may be the ``first``, beside none."""
    before = await speed(peer, [None] * count) if first else 0.0
    await load_all(ours, setting)
    beside = await speed(ours, [None] * count)
    await unload_all(ours)
    return beside, before or await speed(peer, [None] * count)


async def attach(setting: Setting) -> list[Row]:
    numbers = sum(inputs + outputs for inputs, outputs in shapes_of(MODEL).values())
    rank = round(ATTACHED_BYTES / 4 / numbers)
    times: list[float] = []
    nbytes = 0
    async with AsyncExitStack() as stack:
        sidecar = await spawned(stack, setting)
        for number in range(setting.rounds + 1):
            card = await sidecar.adapter_load(str(MODEL), "attached", adapter(setting, 100, rank))
            await sidecar.adapter_unload(str(MODEL), "attached")
            times += [card.load_s] if number else []
            nbytes = card.memory_bytes
    told = f"{statistics.median(times) * 1000:.0f} ms ({min(times) * 1000:.0f} to {max(times) * 1000:.0f})"
    return [Row(f"adapter/load of {nbytes / 1e6:.1f} MB, rank {rank}", told, "≤ 50 ms")]


def _told(ours: tuple[float, ...], peer: tuple[float, ...]) -> str:
    found = ratio(ours, peer)
    return f"{found}: {found.ours:.0f} against {found.peer:.0f} tokens/s"


GROUPS: dict[str, Callable[[Setting], Coroutine[Any, Any, list[Row]]]] = {
    "batch": batch,
    "without": without,
    "attach": attach,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.adapters", description=__doc__)
    parser.add_argument("--only", default="batch,without,attach", help="groups, with commas (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--flat", action="store_true", help="let MLX compute, in float32")
    parser.add_argument("--peer", help="the mlx-sidecar of another checkout, for the group without")
    options = parser.parse_args()
    print(machine())
    with tempfile.TemporaryDirectory() as folder:
        how = ("--native", "off") if options.flat else ()
        setting = Setting(options.rounds, how, options.peer, Path(folder))
        for name in options.only.split(","):
            print(f"\n{name}\n")
            print(table(asyncio.run(GROUPS[name](setting))), flush=True)


if __name__ == "__main__":
    main()
