"""A piece of work for an engine, and the loop of a contender's process: it measures what lines on its stdin ask for."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

_SPAN = 8000  # ids above the control tokens that all models here have


class Work(NamedTuple):
    """``rows`` sequences take in ``prompt`` tokens each, and go on for ``steps`` greedy ones.

    ``kept``: later rounds go on where the last one stopped instead of beginning again, because that costs minutes.
    """

    prompt: int
    steps: int = 0
    rows: int = 1
    kept: bool = False


class Times(NamedTuple):
    """Seconds of one round. ``prefill_s`` is of all prompts together, until the first tokens; None where rows went on.

    ``decode_s`` is of the steps after it; None where there were none.
    """

    prefill_s: float | None
    decode_s: float | None


class Engine(Protocol):
    """An engine in the process that measures. Rows have the same length."""

    def begin(self, rows: int, room: int) -> None:
        """Forget everything, and make ``rows`` empty rows for ``room`` tokens each."""

    def prefill(self, prompts: Sequence[list[int]]) -> list[int]:
        """Take in a prompt for each row, and return the likeliest tokens after them."""
        ...

    def step(self, tokens: list[int]) -> list[int]:
        """Take in one token for each row, and return the likeliest next ones."""
        ...


class Measured(Protocol):
    def measure(self, work: Work, number: int) -> Times:
        """Do ``work``, with prompts of their own for each ``number``."""
        ...


def prompt(tokens: int, seed: int) -> list[int]:
    """Tokens that any model here knows, other ones for each seed from the first on."""
    return [100 + (37 * n + 1009 * seed) % _SPAN for n in range(tokens)]


class InProcess:
    """Times an engine's calls."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._kept: tuple[Work, list[int]] | None = None

    def measure(self, work: Work, number: int) -> Times:
        prefill_s = None
        if work.kept and self._kept is not None and self._kept[0] == work:
            tokens = self._kept[1]
        else:
            prompts = [prompt(work.prompt, number * work.rows + row) for row in range(work.rows)]
            self._engine.begin(work.rows, work.prompt + _ROUNDS_KEPT * work.steps if work.kept else sum(work[:2]))
            began = time.perf_counter()
            tokens = self._engine.prefill(prompts)
            prefill_s = time.perf_counter() - began
        if work.steps == 0:
            return Times(prefill_s, None)
        began = time.perf_counter()
        for _ in range(work.steps):
            tokens = self._engine.step(tokens)
        decode_s = time.perf_counter() - began
        self._kept = (work, tokens) if work.kept else None
        return Times(prefill_s, decode_s)


_ROUNDS_KEPT = 64  # the most rounds for which rows that go on have room


def serve(measured: Measured, facts: dict[str, Any]) -> None:
    """Tell ``facts``, then answer each line on stdin, a Work and a number, with Times; return when stdin ends."""
    _tell(facts)
    for line in sys.stdin:
        work, number = json.loads(line)
        _tell(measured.measure(Work(*work), number))


def warm(engine: Engine) -> None:
    """Touch everything once: buffers, threads, code that is compiled when it is first used."""
    InProcess(engine).measure(Work(32, 2), 0)
    InProcess(engine).measure(Work(4, 2, rows=4), 0)


def _tell(answer: Any) -> None:
    print(json.dumps(answer), flush=True)
