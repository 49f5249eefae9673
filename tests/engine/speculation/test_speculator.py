"""Tokens are proposed where they are likely enough for the time that they add to a step."""

from __future__ import annotations

from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlx_sidecar.engine.core.sequence import Sequence
from mlx_sidecar.engine.speculation.price import Acceptance, StepPrices
from mlx_sidecar.engine.speculation.speculator import Candidate, Source, Speculator
from mlx_sidecar.link.messages import Speculation
from tests.support.sequences import sequence_of

REPEATS = [1, 2, 3, 4, 5, 6, 7, 8] * 4
numbers = count(1)


def sequence(*, ngram: bool = True) -> Sequence:
    return sequence_of(next(numbers), REPEATS, 100, speculation=Speculation(ngram=ngram))


def priced(base_s: float, token_s: float) -> Speculator:
    """A speculator that has seen steps of such a price."""
    speculator = Speculator()
    for number in range(300):
        tokens = 1 + number % 8
        speculator.prices.learn(tokens, base_s + token_s * tokens)
    return speculator


def offered(speculator: Speculator, rows: list[Sequence], most: int = 15) -> list[int]:
    found = speculator.propose([Candidate(row, [], most) for row in rows], len(rows))
    return [len(found[row.id].tokens) if row.id in found else 0 for row in rows]


@given(base=st.floats(0.1, 10), token=st.floats(0.01, 1), sizes=st.lists(st.integers(1, 40), min_size=60, max_size=60))
def test_a_line_is_learned_as_it_is(base: float, token: float, sizes: list[int]) -> None:
    prices = StepPrices()
    for tokens in [1, 40, *sizes]:
        prices.learn(tokens, base + token * tokens)
    if len(set(sizes)) > 3:
        assert prices.of(20) == pytest.approx(base + token * 20, rel=0.3)


def test_one_slow_step_is_not_believed_for_long() -> None:
    speculator = priced(1.0, 0.1)
    before = speculator.prices.token_s
    speculator.prices.learn(4, 100.0)
    assert speculator.prices.token_s < 6 * before
    for _ in range(200):  # steps without proposals
        speculator.prices.learn(1, 1.1)
    assert speculator.prices.token_s < 2 * before


def test_what_is_accepted_more_often_is_proposed_further() -> None:
    speculator = priced(1.0, 0.2)
    eager, doubted = sequence(), sequence()
    for _ in range(20):
        speculator.verified(eager, Source.LONG_MATCH, 4, 4)
        speculator.verified(doubted, Source.LONG_MATCH, 4, 0)
    far, none = offered(speculator, [eager, doubted])
    assert far > 4
    assert none == 0


def test_nothing_is_proposed_where_each_token_costs_a_step() -> None:
    assert offered(priced(0.0, 1.0), [sequence(), sequence()]) == [0, 0]


def test_a_full_batch_is_left_alone_where_a_token_costs_its_share() -> None:
    speculator = Speculator()
    for number in range(300):
        speculator.prices.learn(32 + number % 3, 0.01 + 0.03 * (32 + number % 3))
    assert offered(speculator, [sequence() for _ in range(32)]) == [0] * 32


def test_a_row_that_was_doubted_is_tried_again_after_a_while() -> None:
    speculator = priced(1.0, 0.2)
    row = sequence()
    for _ in range(20):
        speculator.verified(row, Source.LONG_MATCH, 4, 0)
    tries = [offered(speculator, [row])[0] for _ in range(120)]
    assert tries[0] == 0
    assert max(tries) > 0


def test_prompt_lookup_is_not_asked_where_the_host_does_not_want_it() -> None:
    row = sequence(ngram=False)
    assert offered(priced(1.0, 0.01), [row]) == [0]
    assert not priced(1.0, 0.01).promises(row)


def test_drafting_pays_only_where_a_pass_of_the_draft_model_is_short() -> None:
    speculator = priced(1.0, 0.05)
    row = sequence()
    for _ in range(30):
        speculator.verified(row, Source.DRAFT, 4, 4)
    depths = [speculator.depths([Candidate(row, [], 8)], 1, pass_s)[row.id] for pass_s in (0.0, 0.1, 2.0)]
    assert depths[0] == 8
    assert depths[0] >= depths[1] > depths[2] == 0
    assert speculator.depths([Candidate(row, [], 8)], 1, None)[row.id] == 2  # before a pass was measured


@given(outcomes=st.lists(st.tuples(st.integers(1, 15), st.integers(0, 15)), max_size=80))
def test_a_rate_is_a_probability(outcomes: list[tuple[int, int]]) -> None:
    rate = Acceptance(0.6)
    for proposed, accepted in outcomes:
        rate.learn(proposed, min(proposed, accepted))
        rate.forget()
        assert 0 < rate.rate < 1
