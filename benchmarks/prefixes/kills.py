"""``kill -9`` of an engine that writes its cache behind: the next one on the same directory must answer the same.

python -m benchmarks.prefixes kills
"""

from __future__ import annotations

import random
import tempfile
from dataclasses import dataclass
from pathlib import Path

from mlx_sidecar.link.cache_messages import CacheFigures, QueryCache

from ..faults.numerics import numerics
from ..measure import Row

ROUNDS = 20
PROMPTS = 24
PROMPT_TOKENS = 400
ANSWER_TOKENS = 6
KIND = "qwen3"


@dataclass
class Outcome:
    """``disk_tokens`` were read from the files that the kills had left; ``damaged`` of those files were unusable."""

    answers: int = 0
    wrong: int = 0
    disk_tokens: int = 0
    damaged: int = 0


def run(rounds: int = ROUNDS) -> list[Row]:
    outcome = killed(rounds, seed=11)
    return [
        Row(
            f"kill -9 while the disk tier writes, {rounds} times, {' '.join(numerics())}",
            f"{outcome.wrong} of {outcome.answers} answers of the engines after it with a wrong token, 0 crashes; "
            f"{outcome.disk_tokens} tokens came from disk, {outcome.damaged} files found damaged",
            "0",
        )
    ]


def killed(rounds: int, seed: int) -> Outcome:
    from tests.support.engine_process import ready_engine
    from tests.support.random_models import write_model

    draw = random.Random(seed)
    prompts = [[draw.randrange(300) for _ in range(PROMPT_TOKENS)] for _ in range(PROMPTS)]
    outcome = Outcome()
    with tempfile.TemporaryDirectory() as folder:
        path = str(write_model(Path(folder, KIND), KIND))
        with ready_engine(numerics=numerics()[1], cache_limit_bytes=0) as engine:
            engine.load(KIND, path)
            expected = [engine.generate(KIND, prompt, ANSWER_TOKENS) for prompt in prompts]
        for number in range(rounds):
            cache = str(Path(folder, f"cache-{number}"))
            _write_and_die(path, cache, prompts, draw.randrange(PROMPTS))
            _check(path, cache, prompts, expected, outcome)
    return outcome


def _write_and_die(path: str, cache: str, prompts: list[list[int]], after: int) -> None:
    """Kill an engine once it has answered so many of the prompts, with the others on their way."""
    from tests.support.engine_process import engine_process

    with engine_process(numerics=numerics()[1], cache_dir=cache) as engine:
        engine.load(KIND, path)
        sequences = [engine.submit(KIND, prompt, ANSWER_TOKENS) for prompt in prompts]
        engine.finished(sequences[after])
        engine.process.kill()


def _check(path: str, cache: str, prompts: list[list[int]], expected: list[list[int]], outcome: Outcome) -> None:
    from tests.support.engine_process import ready_engine

    with ready_engine(numerics=numerics()[1], cache_dir=cache) as engine:
        engine.load(KIND, path)
        for prompt, answer in zip(prompts, expected, strict=True):
            sequence = engine.submit(KIND, prompt, ANSWER_TOKENS)
            outcome.disk_tokens += engine.finished(sequence).cached_disk
            outcome.wrong += engine.tokens(sequence) != answer
            outcome.answers += 1
        op = engine.number()
        engine.send(QueryCache(op))
        outcome.damaged += engine.wait(CacheFigures, lambda figures: figures.op == op).counters["disk_damaged"]
