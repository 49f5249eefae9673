"""Random damage to the disk tier: bytes, cuts, swapped and foreign files.

After each, a new engine answers a prompt whose blocks are on disk, and its answer must be the same as without them.

    python -m benchmarks.prefixes damage
"""

from __future__ import annotations

import random
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from ..measure import Row
from .rig import Rig, load, rig

ROUNDS = 10_000
PROMPTS = 3
PROMPT_TOKENS = 300
ANSWER_TOKENS = 6
KINDS = ("qwen3", "sliding", "lfm2")

Damage = Callable[[random.Random, Path, list[Path]], None]


def flip(draw: random.Random, file: Path, _: list[Path]) -> None:
    data = bytearray(file.read_bytes())
    for _times in range(draw.choice([1, 1, 1, 8, 200])):
        data[draw.randrange(len(data))] ^= draw.randrange(1, 256)
    file.write_bytes(data)


def flip_in_the_header(draw: random.Random, file: Path, _: list[Path]) -> None:
    data = bytearray(file.read_bytes())
    data[draw.randrange(min(len(data), 1500))] ^= 1 << draw.randrange(8)
    file.write_bytes(data)


def cut(draw: random.Random, file: Path, _: list[Path]) -> None:
    file.write_bytes(file.read_bytes()[: draw.randrange(file.stat().st_size)])


def lengthen(draw: random.Random, file: Path, _: list[Path]) -> None:
    with file.open("ab") as stream:
        stream.write(draw.randbytes(draw.randrange(1, 5000)))


def blank(draw: random.Random, file: Path, _: list[Path]) -> None:
    data = bytearray(file.read_bytes())
    start = draw.randrange(len(data))
    stop = draw.randrange(start, len(data)) + 1
    data[start:stop] = bytes(stop - start)
    file.write_bytes(data)


def replace(draw: random.Random, file: Path, _: list[Path]) -> None:
    file.write_bytes(draw.randbytes(draw.randrange(5000)))


def swap(draw: random.Random, file: Path, files: list[Path]) -> None:
    other = draw.choice(files)
    one, two = file.read_bytes(), other.read_bytes()
    file.write_bytes(two)
    other.write_bytes(one)


def remove(_draw: random.Random, file: Path, _: list[Path]) -> None:
    file.unlink()


DAMAGES: tuple[Damage, ...] = (flip, flip_in_the_header, cut, lengthen, blank, replace, swap, remove)


@dataclass
class Outcome:
    """``wrong`` answers, and tokens read from disk in spite of the damage, because without any nothing was tested."""

    rounds: int = 0
    wrong: int = 0
    disk_tokens: int = 0
    noticed: Counter[str] = field(default_factory=Counter)


def run(rounds: int = ROUNDS) -> list[Row]:
    from tests.support.random_models import write_model

    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for kind in KINDS:
            path = write_model(Path(folder, kind), kind)
            outcome = damaged(path, Path(folder, f"cache-{kind}"), rounds // len(KINDS) + 1, seed=7)
            rows.append(
                Row(
                    f"damage to the disk tier, {kind}: {outcome.rounds} times one to three files",
                    f"{outcome.wrong} answers with a wrong token; {outcome.noticed['disk_damaged']} files found "
                    f"damaged, {outcome.disk_tokens / outcome.rounds:.0f} tokens an answer came from disk all the same",
                    "0",
                )
            )
    return rows


def damaged(path: Path, directory: Path, rounds: int, seed: int) -> Outcome:
    """Damage the cache of the model in ``path`` so many times, each time from its first state."""
    draw = random.Random(seed)
    geometry = load(path)
    trunk = [draw.randrange(300) for _ in range(PROMPT_TOKENS // 2)]
    prompts = [trunk + [draw.randrange(300) for _ in range(PROMPT_TOKENS // 2)] for _ in range(PROMPTS)]
    with rig(geometry, None) as cold:
        expected = [cold.generate(prompt, ANSWER_TOKENS).tokens for prompt in prompts]
    intact = directory.with_suffix(".intact")
    with rig(geometry, intact) as warm:
        for prompt in prompts:
            warm.generate(prompt, ANSWER_TOKENS)
        warm.write()
    outcome = Outcome()
    for _ in range(rounds):
        shutil.rmtree(directory, ignore_errors=True)
        shutil.copytree(intact, directory)
        files = sorted(directory.rglob("*.safetensors"))
        for file in draw.sample(files, draw.randint(1, 3)):
            if file.exists():
                draw.choice(DAMAGES)(draw, file, [other for other in files if other.exists()])
        with rig(geometry, directory) as life:
            _answer(life, draw.randrange(PROMPTS), prompts, expected, outcome)
    return outcome


def _answer(life: Rig, number: int, prompts: list[list[int]], expected: list[list[int]], outcome: Outcome) -> None:
    said = life.generate(prompts[number], ANSWER_TOKENS)
    outcome.rounds += 1
    outcome.wrong += said.tokens != expected[number]
    outcome.disk_tokens += said.disk
    outcome.noticed.update(life.tier.figures.counters)
