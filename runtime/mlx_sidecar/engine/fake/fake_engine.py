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
from ...link.control_messages import EmbeddingCard, Load, ModelCard
from ...link.faults import fault_of
from ...link.messages import Effort, Fault, FinishReason, TokenLogprob
from ..core.batch import Event, StepFailed, Work
from ..core.constraint import Constraint
from ..core.memory_cost import LayerCost, SequenceCost
from ..core.sequence import MOST_PROPOSED, Sequence
from ..grammar.library import unavailable
from ..resident_models import LoadedModel, LoadStep
from ..speculation.prompt_lookup import lookup
from .constrained import take, vocabulary
from .fake_script import END, VOCABULARY, Script
from .fake_vectors import vector_of
from .ways_out import ways_out

CRASH_STATUS = 70

_LONGEST_MARKER = 128  # bytes

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
    closing: bool = False  # the script has been said to its end

    def next(self) -> int:
        """Return the next token of the script."""
        token = next(self.answer)
        self.closing = self.closing or token == END
        return token


class FakeBatch:
    """Sequences of one fake model, each on its own clock. Prefill is a time in the script, whatever the prompt."""

    in_flight = False
    read_s = 0.0  # of no step: none is ever in flight
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
        due_s = sequence.standing.admitted_s + (self._script.prefill_ms + self._script.delay_ms) / 1000
        poison = self._script.poison_prompt or self._script.poison_token in prompt
        run = self._runs[sequence.id] = _Run(sequence, answer, at, due_s, poison)
        for _ in range(at):
            run.next()
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
        """Generate a token for every sequence that is due, or as many as its proposals and its grammar give at once."""
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
        if (goal := sequence.asked.vector) is not None:
            return Event(sequence, [], "length", vector=vector_of(sequence.tokens, goal, self._script.dimensions))
        if sequence.constraint is not None:
            return self._constrained(run, sequence.constraint, run.next())
        proposed = self._proposed(run)
        tokens: list[int] = []
        while (token := run.next()) not in sequence.stop_tokens:
            tokens.append(ord(" ") if token == END else token)  # where the host ignores the end of turn, it goes on
            if tokens != proposed[: len(tokens)]:
                break
        else:
            sequence.stopped_by = token
        accepted = sum(one == other for one, other in zip(tokens, proposed, strict=False))
        effort = Effort(proposed=len(proposed), accepted=accepted) if proposed else None
        full = self._grow(run, tokens)
        reason: FinishReason | None = "stop" if sequence.stopped_by is not None else "length" if full else None
        return Event(sequence, tokens, reason, logprobs=_logprobs(sequence, tokens), effort=effort)

    def _proposed(self, run: _Run) -> list[int]:
        """Return what prompt lookup proposes, if the host asks for it: the step gives as many tokens as come true."""
        sequence = run.sequence
        wanted = sequence.speculation
        if wanted is None or not wanted.ngram:
            return []
        room = min(sequence.limit - len(sequence.generated), self._script.undisturbed(run.at))
        most = min(room - 1, wanted.max_tokens or MOST_PROPOSED, MOST_PROPOSED)
        return lookup(sequence.history(), [], most).tokens if most > 0 else []

    def _constrained(self, run: _Run, constraint: Constraint, scripted: int) -> Event:
        sequence = run.sequence
        room = min(sequence.limit - len(sequence.generated), self._script.undisturbed(run.at))
        asked = sequence.asked.constraint
        said = bytes(token for token in sequence.history()[-_LONGEST_MARKER:] if token < END)
        taken = take(
            constraint,
            scripted,
            sequence.stop_tokens,
            room,
            closing=run.closing,
            ways=ways_out("" if asked is None else asked.grammar),
            said=said,
        )
        if constraint.lifted:
            sequence.constraint = None
        for _ in taken.tokens[1:]:
            run.next()
        full = self._grow(run, taken.tokens)
        sequence.stopped_by = taken.stopped_by
        logprobs = _logprobs(sequence, taken.tokens)
        if taken.stuck:
            fault = fault_of(errors.ConstraintUnsatisfiable(sequence.total))
            return Event(sequence, taken.tokens, "error", fault, logprobs, taken.effort)
        reason: FinishReason | None = "stop" if taken.over else "length" if full else None
        return Event(sequence, taken.tokens, reason, logprobs=logprobs, effort=taken.effort)

    def _grow(self, run: _Run, tokens: list[int]) -> bool:
        """Take ``tokens`` into the answer; return whether it is as long as it may be."""
        sequence = run.sequence
        run.at += len(tokens)
        run.due_s += self._script.delay_ms / 1000
        sequence.generated += tokens
        sequence.known += len(tokens)
        return len(sequence.generated) >= sequence.limit

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


def _logprobs(sequence: Sequence, tokens: list[int]) -> list[TokenLogprob] | None:
    """Return log-probabilities where they are asked for: a token of an answer has a probability of a half.

    The tokens with the next numbers each have half of that of the one before.
    """
    count = sequence.sampling.logprobs
    if count is None:
        return None
    return [
        TokenLogprob(-log(2), [((token + rank) % VOCABULARY, -(rank + 1) * log(2)) for rank in range(count)])
        for token in tokens
    ]


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
            capabilities={
                "prefix_cache": "a fake model has no keys and values",
                "draft": "a fake model samples nothing",
                "adapter": "a fake model has no weights",
                "response_format": unavailable(),
            },
            embedding=EmbeddingCard(script.dimensions, script.context, "mean"),
        )
        cost = SequenceCost((LayerCost(token_bytes=script.token_bytes),))
        batch = FakeBatch(script, self._process)
        return LoadedModel(card, batch, cost, vocabulary=vocabulary(load.model))

    def reclaim(self) -> None:
        """Do nothing, because no memory was taken."""

    def gauges(self) -> dict[str, float]:
        return {}
