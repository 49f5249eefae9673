"""Which forward a model is given: one that rounds otherwise is right, one that keeps another state is not."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlx.utils import tree_map

from benchmarks.architectures import ARCHITECTURES, VOCABULARY, judged, make
from mlx_sidecar.engine.execution.forward import StepInput, StepOutput
from mlx_sidecar.engine.execution.merged_forward import MergedForward
from mlx_sidecar.engine.execution.probe import probe
from mlx_sidecar.engine.execution.trial import Trial, _spread, distance, drained
from mlx_sidecar_protocol.errors import ModelLoadFailed, ModelUnsupported

PLAIN = ["falcon_h1", "gemma2", "gpt2", "gpt_oss", "lfm2", "llama4", "mamba", "mixtral", "phi", "qwen3_5", "stablelm"]
ILL = ["gemma3_text", "gpt_neox", "llama", "qwen3"]
HALF = [mx.bfloat16, mx.float16]


def in_type(model: Any, dtype: mx.Dtype) -> Any:
    model.update(tree_map(lambda a: a.astype(dtype) if mx.issubdtype(a.dtype, mx.floating) else a, model.parameters()))
    return model


class Off(MergedForward):
    """mlx-lm's own way, with logits that are off by ``by`` of their range in steps and rows that ``where`` names."""

    def __init__(self, model: Any, by: float, where: Any = lambda step, row: True) -> None:
        super().__init__(model, batchable=False)
        self._by, self._where, self._step = by, where, -1

    def run(self, step: StepInput) -> StepOutput:
        logits, state, _ = super().run(step)
        self._step += 1
        rows = [part.row for part in step.parts for _ in range(part.want.last)]
        off = [self._by * self._where(self._step, row) for row in rows]
        if not off:
            return StepOutput(logits, state)
        span = mx.max(logits, axis=-1, keepdims=True) - mx.min(logits, axis=-1, keepdims=True)
        # Every other logit, for a shift of all would be none.
        wave = mx.where(mx.arange(logits.shape[-1]) % 2 == 0, 0.0, 1.0)
        return StepOutput((logits + mx.array(off)[:, None] * span * wave).astype(logits.dtype), state)


def passes(model: Any, *off: Any) -> bool:
    trial = Trial(model, VOCABULARY)
    drained(trial.begin())
    return drained(trial.passes(Off(model, *off)))


@pytest.mark.parametrize("dtype", [mx.float32, *HALF])
def test_a_state_that_is_wrong_is_found_in_any_precision(dtype: mx.Dtype) -> None:
    assert not passes(in_type(make("llama", ill=False), dtype), 0.1)


@pytest.mark.parametrize("dtype", HALF)
def test_two_kernels_of_half_precision_may_differ_by_two_hundredths(dtype: mx.Dtype) -> None:
    assert passes(in_type(make("llama", ill=False), dtype), 0.02)


def test_rounding_of_float32_is_no_wrong_state() -> None:
    assert passes(make("llama", ill=False), 3e-4)


def test_one_row_of_eight_decides_nothing_however_far_it_is_off() -> None:
    assert passes(make("llama", ill=False), 50.0, lambda step, row: row == 3)


def test_a_state_that_is_wrong_only_where_two_rows_decode_is_found() -> None:
    assert not passes(make("llama", ill=False), 0.1, lambda step, row: step == 4)


def test_a_state_that_is_wrong_at_most_positions_is_found() -> None:
    assert not passes(make("llama", ill=False), 0.1, lambda step, row: row != 3 and row != 6)


@given(st.integers(1, 300_000))
def test_samples_are_ids_of_the_vocabulary_and_mostly_different_ones(vocabulary: int) -> None:
    ids = _spread(vocabulary, 52)
    assert all(0 <= id_ < vocabulary for id_ in ids)
    assert len(set(ids)) >= min(52, vocabulary * 7 // 8) * 0.6


@pytest.mark.parametrize("vocabulary", [1, 2, 17])
def test_a_vocabulary_smaller_than_the_samples_is_enough(vocabulary: int) -> None:
    model = make("llama", ill=False)
    model.model.embed_tokens.weight = model.model.embed_tokens.weight[:vocabulary]
    model.lm_head.weight = model.lm_head.weight[:vocabulary]
    assert probe("small", model).vocabulary == vocabulary


def test_a_token_at_which_the_model_fails_does_not_keep_it_from_loading() -> None:
    model = make("llama", ill=False)
    model.model.embed_tokens.weight[_spread(VOCABULARY, 52)[0]] = mx.nan
    assert probe("one", model).forward.name == "flat"


@pytest.mark.parametrize(("dtype", "better"), [(mx.float16, "bfloat16 or float32"), (mx.bfloat16, "float32")])
def test_a_model_that_fails_at_every_token_is_refused_and_told_what_may_help(dtype: mx.Dtype, better: str) -> None:
    model = in_type(make("llama", ill=False), dtype)
    model.lm_head.weight[7] = mx.inf
    with pytest.raises(ModelLoadFailed, match=f"not finite.*dtype {better}"):
        probe("all", model)


def test_a_model_that_rules_tokens_out_by_minus_infinity_is_as_good_as_any() -> None:
    model = make("llama", ill=False)
    head = type(model.lm_head)
    ruled_out = mx.where(mx.arange(VOCABULARY) < 9, -mx.inf, 0.0)
    kind = type("Ruling", (head,), {"__call__": lambda self, x: head.__call__(self, x) + ruled_out})
    model.lm_head.__class__ = kind
    assert probe("ruling", model).forward.name == "flat"


def test_a_model_that_mlx_lm_cannot_run_in_passes_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    model = make("llama", ill=False)
    trial = Trial(model, VOCABULARY)
    drained(trial.begin())
    monkeypatch.setattr(trial, "begin", lambda: iter(()))
    monkeypatch.setattr("mlx_sidecar.engine.execution.probe.Trial", lambda *_: trial)
    calls = iter(range(10**6))
    whole = type(model).__call__

    def failing(self: Any, *args: Any, **kwargs: Any) -> Any:
        if next(calls):
            raise ValueError("shapes (4,2) and (4,4) cannot be broadcast")
        return whole(self, *args, **kwargs)

    monkeypatch.setattr(type(model), "__call__", failing)
    with pytest.raises(ModelUnsupported, match="with a cache: ValueError: shapes"):
        probe("odd", model)


def test_a_lack_of_memory_is_not_taken_for_a_model_that_cannot_be_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_room(*_: Any) -> Any:
        raise RuntimeError("[malloc] Unable to allocate 123456 bytes")

    monkeypatch.setattr(Trial, "passes", no_room)
    with pytest.raises(RuntimeError, match="allocate"):
        probe("large", make("llama", ill=False))


def test_logits_are_compared_where_they_are_numbers() -> None:
    logits = mx.array([0.0, 10.0, -mx.inf])
    assert distance(logits, logits) == 0
    assert distance(mx.array([0.0, 9.0, -mx.inf]), logits) == pytest.approx(0.1)
    assert distance(mx.array([0.0, mx.nan, -mx.inf]), logits) == mx.inf
    assert distance(mx.array([0.0, 10.0, 1.0]), logits) == mx.inf


@pytest.mark.parametrize(("name", "ill"), [*((name, False) for name in PLAIN), *((name, True) for name in ILL)])
def test_warm_answers_are_cold_ones_and_greedy_ones_those_of_mlx_lm(name: str, ill: bool) -> None:
    row = judged(name, ill=ill)
    assert row.warm_is_cold
    assert row.greedy_is_own


def test_there_are_architectures_enough_for_the_table() -> None:
    assert len(ARCHITECTURES) >= 23
