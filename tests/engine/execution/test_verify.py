"""A decode step that verifies proposals gives the tokens that steps of one token each give."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mlx_sidecar.engine.cache.prefixes import Prefixes
from mlx_sidecar.engine.cache.store import Store
from mlx_sidecar.engine.core.batch import StepFailed
from mlx_sidecar.engine.core.sequence import Sequence
from mlx_sidecar.engine.execution import mlxlm
from mlx_sidecar.engine.execution.mlx_batch import MlxBatch
from mlx_sidecar.engine.execution.native.proof import prove
from mlx_sidecar.engine.execution.probe import probe
from mlx_sidecar.engine.execution.sampler import Sampler
from mlx_sidecar.engine.execution.trial import drained
from mlx_sidecar.link.messages import Constraint as AskedConstraint
from mlx_sidecar.link.messages import Sampling, Speculation
from tests.engine.driver import Driver
from tests.engine.forwards import NATIVELY
from tests.support.prices import Free
from tests.support.sequences import sequence_of

KINDS = ["sliding", "lfm2", "llama4", "native sliding"]  # flat, merged, row by row and native
CUT = ["sliding", "llama4", "native sliding"]  # whose rows can be truncated
LIMIT_BYTES = 1 << 34
VOCABULARY = 300
SPECULATES = Speculation()
PROSE = [(7 * at * at + 13 * at + 5) % 300 for at in range(40)]
COPIED = [(11 * at + 3) % 300 for at in range(24)] * 3

numbers = count(1)
MakeBatch = Callable[[], MlxBatch]


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    kind: str = request.param
    return kind


@pytest.fixture(scope="module")
def batch_of_kind(random_models: Path, kind: str) -> MakeBatch:
    model = mlxlm.load_model(random_models / kind.removeprefix(NATIVELY))[0]
    native = kind.startswith(NATIVELY)
    _, vocabulary, forward = drained(prove(kind, model, "exact", 1)) if native else probe(kind, model)

    def new() -> MlxBatch:
        forward.reset()
        prefixes = None if forward.uncacheable else Prefixes(Store(LIMIT_BYTES), kind, forward.spec)
        batch = MlxBatch(forward, vocabulary, LIMIT_BYTES, prefixes)
        batch.proposer.speculator.prices = Free()
        return batch

    return new


def sequence(
    tokens: list[int],
    limit: int = 40,
    sampling: Sampling | None = None,
    *,
    speculates: bool = False,
    grammar: Grammar | None = None,
    stop_tokens: Iterable[int] = (),
) -> Sequence:
    made = sequence_of(
        next(numbers),
        tokens,
        limit,
        sampling,
        stop_tokens=list(stop_tokens),
        speculation=SPECULATES if speculates else None,
        constraint=None if grammar is None else AskedConstraint("", list(stop_tokens)),
    )
    made.constraint = grammar
    return made


class Grammar:
    """Allows the tokens that a function of the number of tokens before says: a set, which may be of one, or all."""

    def __init__(self, allowed: Callable[[int], set[int] | None], length: int = 10**6) -> None:
        self._allowed = allowed
        self._length = length
        self.consumed: list[int] = []
        self.free = self.lifted = False

    def _set(self, at: int) -> set[int] | None:
        return self._allowed(at)

    @property
    def forced(self) -> list[int]:
        forced: list[int] = []
        for at in range(len(self.consumed), self._length):
            allowed = self._set(at)
            if allowed is None or len(allowed) > 1:
                break
            forced += allowed
        return forced

    @property
    def ended(self) -> bool:
        return len(self.consumed) >= self._length

    @property
    def complete(self) -> bool:
        return self.ended

    def consume(self, token: int) -> bool:
        if self.allowed([token]):
            self.consumed.append(token)
            return True
        return False

    def allowed(self, tokens: list[int]) -> int:
        for good, token in enumerate(tokens):
            at = len(self.consumed) + good
            allowed = self._set(at)
            if at >= self._length or (allowed is not None and token not in allowed):
                return good
        return len(tokens)

    def mask(self) -> NDArray[np.bool_]:
        allowed = self._set(len(self.consumed))
        mask = np.full(VOCABULARY, allowed is None)
        mask[list(allowed or ())] = True
        return mask


class FailingGrammar(Grammar):
    """Fails behind ``length`` tokens, after it has told a mask."""

    @property
    def ended(self) -> bool:
        return False

    def consume(self, token: int) -> bool:
        return len(self.consumed) < self._length and super().consume(token)


def run(batch: MlxBatch, *sequences: Sequence) -> Driver:
    driver = Driver(batch)
    driver.add(*sequences)
    driver.drain()
    return driver


SAMPLINGS = [
    Sampling(),
    Sampling(temperature=0.9, seed=7),
    Sampling(temperature=0.8, seed=3, repetition_penalty=1.3, frequency_penalty=0.4, top_p=0.9),
    Sampling(temperature=0.7, seed=5, top_k=20, min_p=0.02, logit_bias={5: 4.0, 9: -3.0}),
]


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_the_tokens_with_proposals_are_those_without(batch_of_kind: MakeBatch, sampling: Sampling) -> None:
    plain = [sequence(tokens, 60, sampling) for tokens in (PROSE, COPIED)]
    run(batch_of_kind(), *plain)
    for together in (False, True):
        proposed = [sequence(tokens, 60, sampling, speculates=True) for tokens in (PROSE, COPIED)]
        others = [sequence(PROSE[n:], 30) for n in range(3)] if together else []
        run(batch_of_kind(), *proposed, *others)
        assert [s.generated for s in proposed] == [s.generated for s in plain]


def test_a_text_that_repeats_takes_fewer_steps(batch_of_kind: MakeBatch, kind: str) -> None:
    copied = run(batch_of_kind(), sequence(COPIED, 80, speculates=True))
    plain = run(batch_of_kind(), sequence(COPIED, 80))
    [told] = {event.sequence.id for event in copied.events}
    accepted = sum(event.effort.accepted for event in copied.events if event.effort)
    tokens = sum(len(event.tokens) for event in copied.events)
    assert tokens == 80, told
    assert (copied.passes < plain.passes) == (accepted > 0) == (kind in CUT)


def test_log_probabilities_with_proposals_are_the_models_own(batch_of_kind: MakeBatch) -> None:
    asks = Sampling(logprobs=2)
    plain, copied = (run(batch_of_kind(), sequence(COPIED, 40, asks, speculates=on)) for on in (False, True))
    one, other = (
        [logprob for event in driver.events for logprob in event.logprobs or []] for driver in (plain, copied)
    )
    assert [p.top[0][0] for p in one] == [p.top[0][0] for p in other]
    assert [p.logprob for p in other] == pytest.approx([p.logprob for p in one], abs=1e-4)


def test_a_stop_token_among_proposals_ends_the_answer_there(batch_of_kind: MakeBatch) -> None:
    plain = sequence(COPIED, 40)
    run(batch_of_kind(), plain)
    stop = plain.generated[25]
    first = plain.generated.index(stop)
    for speculates in (False, True):
        stopped = sequence(COPIED, 40, speculates=speculates, stop_tokens=[stop])
        driver = run(batch_of_kind(), stopped)
        assert (stopped.generated, driver.events[-1].reason) == (plain.generated[:first], "stop")


def test_what_was_verified_is_cached_as_what_was_decoded(batch_of_kind: MakeBatch) -> None:
    batch = batch_of_kind()
    first = sequence(COPIED, 120, speculates=True)
    run(batch, first)
    tokens = first.tokens + first.generated[:100]
    warm, cold = sequence(tokens, 12), sequence(tokens, 12)
    run(batch, warm)
    run(batch_of_kind(), cold)
    assert warm.generated == cold.generated


def test_a_sequence_that_is_preempted_among_its_proposals_goes_on_with_the_same_tokens(
    batch_of_kind: MakeBatch,
) -> None:
    plain = sequence(COPIED, 60)
    run(batch_of_kind(), plain)
    driver = Driver(batch_of_kind())
    preempted, other = sequence(COPIED, 60, speculates=True), sequence(PROSE, 60)
    driver.add(preempted, other)
    for keep in (True, False):
        for _ in range(6):
            driver.step()
        if preempted in driver.running:
            driver.end(preempted, keep=keep)
            driver.step()
            driver.add(preempted)
    driver.drain()
    assert preempted.generated == plain.generated


@pytest.mark.parametrize("call", [12, 15, 18])
def test_tokens_before_a_failure_in_the_middle_of_a_step_are_told_and_the_rest_comes_later(
    batch_of_kind: MakeBatch, monkeypatch: pytest.MonkeyPatch, call: int
) -> None:
    plain = sequence(COPIED, 60)
    run(batch_of_kind(), plain)
    driver = Driver(batch_of_kind())
    held = sequence(COPIED, 60, speculates=True, grammar=Grammar(lambda at: None))
    driver.add(held)
    calls = count(1)
    sample = Sampler.sample

    def failing_once(*given: Any, **more: Any) -> Any:
        if next(calls) == call:
            raise RuntimeError("scripted")
        return sample(*given, **more)

    monkeypatch.setattr(Sampler, "sample", failing_once)
    with pytest.raises(StepFailed):
        driver.drain()
    told = [token for event in driver.events for token in event.tokens]
    assert told == held.generated == plain.generated[: len(told)]
    driver.running.clear()
    driver.add(held)
    driver.drain()
    assert held.generated == plain.generated


class Slow(Grammar):
    """Notes whether a mask is being computed, which takes until ``go``."""

    def __init__(self, go: threading.Event) -> None:
        super().__init__(even)
        self._go = go
        self.began = threading.Event()
        self.computing = False

    def mask(self) -> NDArray[np.bool_]:
        self.computing = True
        self.began.set()
        self._go.wait()
        found = super().mask()
        self.computing = False
        return found


def test_nothing_computes_with_the_constraint_of_a_sequence_that_was_closed(batch_of_kind: MakeBatch) -> None:
    go = threading.Event()
    held = sequence(PROSE, 20, Sampling(temperature=0.5, top_k=5), grammar=Slow(go))
    driver = Driver(batch_of_kind())
    driver.add(held)
    grammar = held.constraint
    assert isinstance(grammar, Slow)
    go.set()
    while not held.generated:
        driver.step()
    go.clear()
    grammar.began.clear()
    driver.step()
    assert grammar.began.wait(60)
    closing = threading.Thread(target=driver.end, args=(held,))
    closing.start()
    assert grammar.computing
    go.set()
    closing.join()
    assert not grammar.computing


def even(at: int) -> set[int]:
    return set(range(0, VOCABULARY, 2))


def sometimes_forced(at: int) -> set[int] | None:
    return {100 + at % 7} if at % 11 < 4 else None if at % 5 else set(range(20, 200))


@pytest.mark.parametrize(
    ("allowed", "sampling"),
    [(even, SAMPLINGS[0]), (even, SAMPLINGS[2]), (sometimes_forced, SAMPLINGS[1]), (sometimes_forced, SAMPLINGS[3])],
)
def test_a_constrained_answer_is_the_same_alone_in_a_batch_and_with_proposals(
    batch_of_kind: MakeBatch, sampling: Sampling, allowed: Callable[[int], set[int] | None]
) -> None:
    alone = sequence(COPIED, 40, sampling, grammar=Grammar(allowed))
    run(batch_of_kind(), alone)
    wanted = [allowed(at) for at in range(40)]
    assert all(may is None or token in may for may, token in zip(wanted, alone.generated, strict=True))
    proposed, free = sequence(COPIED, 40, sampling, grammar=Grammar(allowed), speculates=True), sequence(PROSE, 50)
    run(batch_of_kind(), proposed, free, sequence(PROSE[1:], 20, speculates=True))
    assert proposed.generated == alone.generated
    unbothered = sequence(PROSE, 50)
    run(batch_of_kind(), unbothered)
    assert free.generated == unbothered.generated


def test_a_token_that_the_grammar_allows_is_the_one_that_is_sampled_without_it(batch_of_kind: MakeBatch) -> None:
    sampling = Sampling(temperature=0.8, seed=11)
    free, held = sequence(PROSE, 30, sampling), sequence(PROSE, 30, sampling, grammar=Grammar(lambda at: None))
    run(batch_of_kind(), free)
    run(batch_of_kind(), held)
    assert held.generated == free.generated


def test_forced_tokens_take_no_steps_of_their_own(batch_of_kind: MakeBatch) -> None:
    def mostly_forced(at: int) -> set[int] | None:
        return None if at % 10 == 0 else {at}

    held = sequence(PROSE, 60, grammar=Grammar(mostly_forced))
    driver = run(batch_of_kind(), held)
    assert held.generated[1:10] == list(range(1, 10))
    assert sum(event.effort.forced for event in driver.events if event.effort) == 54
    assert driver.passes <= 10


def test_forced_tokens_have_log_probabilities_where_they_are_asked_for(batch_of_kind: MakeBatch) -> None:
    held = sequence(PROSE, 30, Sampling(logprobs=1), grammar=Grammar(sometimes_forced))
    told = [p for event in run(batch_of_kind(), held).events for p in event.logprobs or []]
    assert len(told) == 30
    assert all(p.logprob <= p.top[0][1] + 1e-6 for p in told)


def test_an_answer_ends_with_its_grammar(batch_of_kind: MakeBatch) -> None:
    held = sequence(PROSE, 60, grammar=Grammar(sometimes_forced, length=13))
    driver = run(batch_of_kind(), held)
    assert (len(held.generated), driver.events[-1].reason) == (13, "stop")


def test_a_stop_token_of_the_host_is_no_part_of_what_the_grammar_has_seen(batch_of_kind: MakeBatch) -> None:
    grammar = Grammar(lambda at: {at}, length=8)
    held = sequence(PROSE, 60, grammar=grammar, stop_tokens=[5])
    driver = run(batch_of_kind(), held)
    assert (held.generated, grammar.consumed, driver.events[-1].reason) == ([*range(5)], [*range(5)], "stop")
    assert not grammar.complete


@pytest.mark.parametrize("sampling", [Sampling(), Sampling(temperature=0.5, top_k=5)])
def test_an_answer_that_no_token_can_continue_ends_with_a_typed_error(
    batch_of_kind: MakeBatch, sampling: Sampling
) -> None:
    held = sequence(PROSE, 60, sampling, grammar=Grammar(lambda at: None if at < 5 else set()))
    other = sequence(PROSE, 20)
    driver = run(batch_of_kind(), held, other)
    [failed] = [event for event in driver.events if event.sequence is held and event.reason]
    assert failed.fault is not None
    assert (failed.fault.kind, failed.fault.details["position"]) == ("constraint_unsatisfiable", len(PROSE) + 5)
    assert (len(held.generated), len(other.generated)) == (5, 20)


@pytest.mark.parametrize("sampling", [Sampling(), Sampling(temperature=0.5, top_k=5)])
def test_a_grammar_that_fails_between_its_mask_and_the_token_ends_its_answer_alone(
    batch_of_kind: MakeBatch, sampling: Sampling
) -> None:
    held = sequence(PROSE, 60, sampling, grammar=FailingGrammar(lambda at: None, length=5))
    other = sequence(PROSE, 20)
    driver = run(batch_of_kind(), held, other)
    [failed] = [event for event in driver.events if event.sequence is held and event.reason]
    assert failed.fault is not None
    assert failed.fault.kind == "constraint_unsatisfiable"
    assert (len(held.generated), len(other.generated)) == (5, 20)


class Budget(Grammar):
    """Leaves the answer free, but for three tokens behind the fifth."""

    def __init__(self) -> None:
        super().__init__(lambda at: {7} if at in (5, 6, 7) else None)
        self.free = True

    def consume(self, token: int) -> bool:
        allowed = super().consume(token)
        self.free, self.lifted = not self.forced, len(self.consumed) > 7
        return allowed


@pytest.mark.parametrize("sampling", [SAMPLINGS[1], SAMPLINGS[3]])
def test_an_answer_that_is_left_free_needs_no_masks_and_is_followed_no_longer_than_it_has_to_be(
    batch_of_kind: MakeBatch, sampling: Sampling
) -> None:
    plain, held = sequence(COPIED, 40, sampling), sequence(COPIED, 40, sampling, grammar=Budget())
    run(batch_of_kind(), plain)
    driver = run(batch_of_kind(), held)
    assert (held.generated[:5], held.generated[5:8]) == (plain.generated[:5], [7, 7, 7])
    assert sum(event.effort.masked for event in driver.events if event.effort) == 0
    assert held.constraint is None
    proposed = sequence(COPIED, 40, sampling, grammar=Budget(), speculates=True)
    run(batch_of_kind(), proposed, sequence(PROSE, 30))
    assert proposed.generated == held.generated
