"""The fake engine is a device without weights, behind the same link, loop, scheduler and registry.

A token is a byte of UTF-8, and a pure function of prompt and seed. The model's name is a script of its actions and
their times (``fake_script.py``). It never sleeps: it says when its next step is due, and the loop waits on the inbox.
So a cancel is heard at once however slow the script.
"""

from __future__ import annotations

import os
import platform
import threading
import time
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from math import log
from typing import NoReturn

import mlx_sidecar_protocol.errors as errors

from ... import __version__
from ...link.control_messages import Load, ModelCard
from ...link.faults import fault_of
from ...link.messages import Fault, TokenLogprob
from ..core.batch import Event, StepFailed, Work
from ..core.memory_cost import LayerCost, SequenceCost
from ..core.sequence import Sequence
from ..resident_models import LoadedModel, LoadStep
from .fake_script import END, VOCABULARY, Script

CRASH_STATUS = 70

_LOAD_FAILURES = {
    "model_not_found": errors.ModelNotFound,
    "model_load_failed": errors.ModelLoadFailed,
    "model_unsupported": errors.ModelUnsupported,
}


class Process:
    """The engine's own process, which a script ends or hangs."""

    def crash(self) -> NoReturn:
        """End at once, with nothing flushed or told."""
        os._exit(CRASH_STATUS)

    def hang(self) -> None:
        """Never return, like a device operation that does not come back."""
        threading.Event().wait()


@dataclass
class _Run:
    """The rest of one sequence's answer, and when its next token is due."""

    sequence: Sequence
    answer: Iterator[int]
    at: int  # the answer's tokens so far, those before a restart included
    due_s: float
    poison: bool  # the engine does not survive a step with it


class FakeBatch:
    """Sequences of one fake model, each on its own clock. Prefill is a time in the script, whatever the prompt."""

    in_flight = False
    reclaimable_bytes = 0

    def __init__(self, script: Script, process: Process | None = None) -> None:
        self._script = script
        self._process = process or Process()
        self._runs: dict[int, _Run] = {}

    def open(self, sequence: Sequence) -> None:
        """Start the clock of ``sequence``: its first token is due when its scripted prefill is over."""
        prompt = sequence.tokens[: len(sequence.tokens) - sequence.emitted]
        answer = self._script.answer(prompt, sequence.sampling.seed)
        at = sequence.emitted + len(sequence.generated)
        for _ in range(at):
            next(answer)
        due_s = sequence.standing.admitted_s + (self._script.prefill_ms + self._script.delay_ms) / 1000
        poison = self._script.poison_prompt or self._script.poison_token in prompt
        self._runs[sequence.id] = _Run(sequence, answer, at, due_s, poison)
        sequence.known = sequence.total - 1
        if sequence.times.started_s is None:
            sequence.times.started_s = sequence.standing.admitted_s

    def close(self, sequence: Sequence, *, keep: bool) -> None:
        self._runs.pop(sequence.id, None)

    def share(self, sequence: Sequence, tokens: int) -> None:
        """Do nothing, because a prompt takes its scripted time, whatever is cached of it."""

    def release(self) -> None:
        """Do nothing, because nothing is ever kept."""

    def due_s(self, running: Iterable[Sequence], now: float) -> float:
        return min((self._runs[sequence.id].due_s for sequence in running), default=float("inf"))

    def step(self, work: list[Work], now: float) -> list[Event]:
        """Generate one token for every sequence that is due."""
        runs = [self._runs[given.sequence.id] for given in work]
        if any(run.poison for run in runs):
            self._process.crash()
        if 0 < self._script.memory_rows < len(work):
            need_bytes = work[-1].sequence.need_bytes
            raise self._failed(errors.OutOfMemory(need_bytes=need_bytes, have_bytes=0), work)
        due = [run for run in runs if run.due_s <= now]
        # Before any sequence has a token of this step, because a failed step gives no token.
        for run in due:
            self._misbehave(run, work)
        return [self._advance(run) for run in due]

    def _advance(self, run: _Run) -> Event:
        sequence = run.sequence
        if run.at == self._script.fail_after:
            return Event(sequence, [], "error", Fault("internal_error", "the script says so"))
        token = next(run.answer)
        if token in sequence.stop_tokens:
            sequence.stopped_by = token
            return Event(sequence, [], "stop")
        if token == END:  # the host ignores the end of turn: the answer goes on
            token = ord(" ")
        run.at += 1
        run.due_s += self._script.delay_ms / 1000
        sequence.generated.append(token)
        sequence.known += 1
        full = len(sequence.generated) >= sequence.limit
        return Event(sequence, [token], "length" if full else None, logprobs=_logprobs(sequence, token))

    def _misbehave(self, run: _Run, work: list[Work]) -> None:
        script, sequence, at = self._script, run.sequence, run.at
        # It has been so far before, in an engine or a batch that went down with it.
        resumed = (sequence.asked.again or sequence.emitted > 0) and sequence.emitted == at
        if at == script.poison_after or (at == script.crash_after and not resumed):
            self._process.crash()
        if at == script.poison_hang or (at == script.hang_after and not resumed):
            self._process.hang()
        if at == script.poison_raise or (at == script.raise_after and not resumed):
            raise self._failed(errors.InternalError(), work)

    def _failed(self, error: errors.RpcError, work: list[Work]) -> StepFailed:
        for run in self._runs.values():
            run.sequence.known = 0
        self._runs.clear()
        return StepFailed(fault_of(error), [given.sequence for given in work])


def _logprobs(sequence: Sequence, token: int) -> list[TokenLogprob] | None:
    """Return log-probabilities where they are asked for: the token of the script has a probability of a half.

    The tokens with the next numbers each have half of that of the one before.
    """
    count = sequence.sampling.logprobs
    if count is None:
        return None
    likeliest = [((token + rank) % VOCABULARY, -(rank + 1) * log(2)) for rank in range(count)]
    return [TokenLogprob(-log(2), likeliest)]


class FakeBackend:
    """Loads any name at all, and keeps books of memory that it does not hold."""

    name = "fake"
    device = "fake"
    policy = "scripted"

    def __init__(self, process: Process | None = None) -> None:
        self._process = process
        self.versions = {"mlx_sidecar": __version__, "python": platform.python_version()}

    def prove(self) -> None:
        """Do nothing, because there is no device."""

    def estimate(self, load: Load) -> int:
        return Script.of(load.model).memory_bytes

    def load(self, load: Load) -> Generator[LoadStep, None, LoadedModel]:
        script = Script.of(load.model)
        if load.adapter is not None:
            raise errors.UnsupportedParameter("adapter", "a fake model has no weights")
        began = time.monotonic()
        for step in range(script.load_steps):
            due_s = began + script.load_ms / 1000 * (step + 1) / script.load_steps
            yield LoadStep("reading", script.memory_bytes * (step + 1) // script.load_steps, script.memory_bytes, due_s)
        if script.fail_load:
            failure = _LOAD_FAILURES.get(script.fail_load, errors.ModelLoadFailed)
            raise failure(load.model, "the script says so")
        card = ModelCard(
            model=load.model,
            state="ready",
            path=load.path,
            architecture="fake",
            dtype=load.dtype or "float32",
            context_length=script.context,
            vocabulary=VOCABULARY,
            memory_bytes=script.memory_bytes,
            policy=self.policy,
            capabilities={"prefix_cache": "a fake model has no keys and values"},
        )
        cost = SequenceCost((LayerCost(token_bytes=script.token_bytes),))
        batch = FakeBatch(script, self._process)
        return LoadedModel(card, batch, cost)

    def reclaim(self) -> None:
        """Do nothing, because no memory was taken."""

    def gauges(self) -> dict[str, float]:
        return {}
