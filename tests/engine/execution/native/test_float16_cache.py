"""Keys and values in float16: half the memory, and otherwise what they are in float32."""

from __future__ import annotations

from array import array
from typing import Any

import mlx.core as mx
import pytest

from mlx_sidecar.engine.cache.prefixes import Prefixes
from mlx_sidecar.engine.cache.segment import Segment, Span
from mlx_sidecar.engine.cache.store import Store
from mlx_sidecar.engine.execution.forward import NOTHING_WANTED, Logits, Part, StepInput
from mlx_sidecar.engine.execution.native.forward import NativeForward
from mlx_sidecar.engine.execution.native.proof import Proven, prove
from mlx_sidecar.engine.execution.native.weights import NotNative
from mlx_sidecar.engine.execution.trial import distance, drained
from tests.engine.execution.native.families import FAMILIES, make
from tests.engine.execution.native.test_families import CUTS, PROMPT, logits_of, own_logits


def proven(model: Any, arithmetic: str = "exact", threads: int = 1) -> Proven:
    return drained(prove("model", model, arithmetic, threads, "float16"))


@pytest.mark.parametrize("name", FAMILIES)
def test_logits_are_near_those_of_mlx_lm_far_beyond_blocks_and_windows(name: str) -> None:
    model = make(name)
    given, wanted = logits_of(proven(model).forward, PROMPT, CUTS), own_logits(model, PROMPT)
    apart = [distance(one, other) for one, other in zip(given, wanted, strict=True)]
    assert 0 < max(apart) < 5e-3


@pytest.mark.parametrize("name", ["llama", "gemma3"])
def test_threads_and_the_cut_into_steps_change_no_bit(name: str) -> None:
    model = make(name, dtype=mx.bfloat16, bits=4)
    one, three = (proven(model, threads=threads).forward for threads in (1, 3))
    alone = logits_of(one, PROMPT, [1] * len(PROMPT))
    for forward in (one, three):
        for cuts in (CUTS, [150], [64, 64, 22]):
            assert mx.array_equal(logits_of(forward, PROMPT, cuts), alone)


@pytest.mark.parametrize("name", ["llama", "gemma3"])
def test_a_cached_token_takes_half_the_memory(name: str) -> None:
    model = make(name)
    wide, narrow = drained(prove(name, model, "exact", 1)), proven(model)
    assert narrow.cost.all_bytes(100) == wide.cost.all_bytes(100) // 2
    assert narrow.forward.spec.token_bytes == wide.forward.spec.token_bytes // 2
    held = [captured(each.forward, 100)[0].nbytes for each in (wide, narrow)]
    assert held[1] == held[0] // 2


def captured(forward: NativeForward, count: int) -> list[Segment]:
    """Segments of the first ``count`` tokens of ``PROMPT``."""
    forward.open(1, count)
    forward.run(StepInput([Part(1, count, NOTHING_WANTED)], mx.array(PROMPT[:count]))).wait()
    segments = forward.capture(1, 0, count)
    forward.close(1)
    return segments


@pytest.mark.parametrize("name", ["llama", "gemma3"])
@pytest.mark.parametrize("copied", [False, True], ids=["by reference", "from a file"])
def test_a_row_that_begins_with_cached_tokens_has_the_bits_of_one_that_computed_them(name: str, copied: bool) -> None:
    forward = proven(make(name)).forward
    cold = logits_of(forward, PROMPT, [len(PROMPT)])
    segments = captured(forward, 100)
    if copied:
        segments = [
            segment._replace(spans=tuple(Span(span.first, span.data) for span in segment.spans)) for segment in segments
        ]
        assert {span.data.dtype for segment in segments for span in segment.spans} == {mx.float16}
        assert all(forward.spec.fit(segment) for segment in segments)
    prefixes = Prefixes(Store(1 << 30), "model", forward.spec)
    prefixes.put(array("i", PROMPT[:100]), segments)
    match = prefixes.find(array("i", PROMPT))
    forward.open(2, len(PROMPT), match)
    rest = PROMPT[match.length :]
    warm = forward.run(StepInput([Part(2, len(rest), Logits(len(rest)))], mx.array(rest))).wait()
    forward.close(2)
    assert match.length > 0
    assert mx.array_equal(warm, cold[match.length :])


def test_what_float32_kept_does_not_fit() -> None:
    model = make("llama")
    wide, narrow = drained(prove("llama", model, "exact", 1)).forward, proven(model).forward
    assert not any(narrow.spec.fit(segment) for segment in captured(wide, 64))


def test_a_model_whose_keys_float16_cannot_hold_is_named() -> None:
    model = make("llama")
    attention = model.model.layers[1].self_attn
    attention.k_proj.weight = attention.k_proj.weight * 1e6
    attention.q_proj.weight = attention.q_proj.weight * 1e-6
    drained(prove("llama", model, "exact", 1))
    with pytest.raises(NotNative, match="with exact arithmetic and a cache in float16 its logits are not finite"):
        proven(model)


def test_activations_are_rounded_beside_it() -> None:
    model = make("llama", dtype=mx.bfloat16, bits=4)
    given, wanted = logits_of(proven(model, "int8").forward, PROMPT, CUTS), own_logits(model, PROMPT)
    assert max(distance(one, other) for one, other in zip(given, wanted, strict=True)) < 8e-2
