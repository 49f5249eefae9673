"""A submission is checked and filled in before it is queued."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlx_sidecar.engine.core.asked import tokens_left
from mlx_sidecar.engine.core.memory_cost import LayerCost, SequenceCost
from mlx_sidecar.link.faults import fault_of
from mlx_sidecar.link.messages import Generate, Sampling, Submit, Timing
from mlx_sidecar_protocol.errors import ContextTooLong, InvalidParams, OutOfMemory
from tests.support.sequences import sequence_of


def submit(tokens: list[int], max_tokens: int, emitted: int = 0) -> Submit:
    return Submit(1, "m", tokens, Generate(Sampling(), [], max_tokens, emitted))


@given(st.integers(1, 50), st.integers(1, 60), st.integers(1, 60), st.data())
def test_a_replay_ends_where_the_first_run_would_have(
    prompt: int, max_tokens: int, context: int, data: st.DataObject
) -> None:
    if prompt >= context:
        with pytest.raises(ContextTooLong):
            tokens_left(submit([0] * prompt, max_tokens), context, 1)
        return
    whole = tokens_left(submit([0] * prompt, max_tokens), context, 1)
    assert 0 < whole <= max_tokens
    assert prompt + whole <= context
    emitted = data.draw(st.integers(0, whole))
    assert tokens_left(submit([0] * (prompt + emitted), max_tokens, emitted), context, 1) == whole - emitted


def test_timing_adds_up_to_the_whole_time() -> None:
    sequence = sequence_of(1, [1], 10, arrived_s=1.0)
    assert sequence.timing(5.0) == Timing(4.0, 0.0, 0.0)
    sequence.times.started_s = 2.0
    assert sequence.timing(5.0) == Timing(1.0, 3.0, 0.0)
    sequence.times.first_token_s = 4.5
    assert sequence.timing(5.0) == Timing(1.0, 2.5, 0.5)


@given(st.integers(1, 2000), st.integers(1, 2000), st.data())
def test_need_covers_what_is_held_and_never_more_than_the_end(prompt: int, limit: int, data: st.DataObject) -> None:
    cost = SequenceCost((LayerCost(token_bytes=1),))
    sequence = sequence_of(1, [1] * prompt, limit, cost=cost)
    sequence.in_flight = data.draw(st.integers(0, 1))
    sequence.generated = [1] * data.draw(st.integers(0, limit - sequence.in_flight))
    assert sequence.total <= sequence.need_bytes <= prompt + limit
    assert sequence.need_bytes <= sequence.total + 256


@given(st.integers(1, 20), st.integers(1, 5))
def test_a_sequence_prefills_its_prompt_and_then_decodes_one_token_at_a_time(prompt: int, limit: int) -> None:
    sequence = sequence_of(1, [1] * prompt, limit)
    for known in range(prompt):
        sequence.known = known
        assert (sequence.pending, sequence.spent) == (prompt - known, False)
    sequence.known, sequence.in_flight = prompt, 1  # the first token is being computed
    assert (sequence.pending, sequence.spent) == (1, limit == 1)
    sequence.times.first_token_s, sequence.in_flight, sequence.generated = 0.0, 0, [7]
    assert (sequence.pending, sequence.spent) == (1, limit == 1)
    sequence.known = 0  # its cache was dropped: prompt and answer so far are a prompt
    assert sequence.pending == prompt + 1


def test_a_fault_carries_what_a_program_needs() -> None:
    fault = fault_of(OutOfMemory(need_bytes=7, have_bytes=3))
    assert (fault.kind, fault.details) == ("out_of_memory", {"need_bytes": 7, "have_bytes": 3})
    fault = fault_of(InvalidParams.field("tokens", "no"))
    assert (fault.kind, fault.details) == ("invalid_params", {"field": "tokens"})
