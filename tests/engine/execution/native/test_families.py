"""Native code against mlx-lm in float32, for every family it knows and every way in which weights are stored."""

from __future__ import annotations

from itertools import accumulate
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from mlx_sidecar.engine.execution import mlxlm
from mlx_sidecar.engine.execution.forward import NEXT_TOKEN, Hidden, Logits, Part, StepInput
from mlx_sidecar.engine.execution.native import forward as forward_module
from mlx_sidecar.engine.execution.native.forward import NativeForward
from mlx_sidecar.engine.execution.native.proof import in_float32, prove
from mlx_sidecar.engine.execution.native.spec import read_spec
from mlx_sidecar.engine.execution.native.weights import NotNative
from mlx_sidecar.engine.execution.trial import distance, drained
from tests.engine.execution.native.families import FAMILIES, make

PROMPT = [(7 * i + i // 5) % 300 for i in range(150)]  # far beyond windows of 32 and blocks of 64
CUTS = [70, 1, 9, 1, 1, 60, 8]


def own_logits(model: Any, tokens: list[int]) -> mx.array:
    with in_float32(model):
        logits: mx.array = model(mx.array([tokens]), cache=mlxlm.make_prompt_cache(model))[0]
        mx.eval(logits)
    return logits


def logits_of(forward: NativeForward, tokens: list[int], cuts: list[int]) -> mx.array:
    forward.open(1, len(tokens))
    found, begin = [], 0
    for count in cuts:
        step = StepInput([Part(1, count, Logits(count))], mx.array(tokens[begin : begin + count]))
        found.append(forward.run(step).wait())
        begin += count
    forward.close(1)
    return mx.concatenate(found)


@pytest.mark.parametrize("name", FAMILIES)
def test_logits_are_those_of_mlx_lm_far_beyond_blocks_and_windows(name: str) -> None:
    model = make(name)
    forward = drained(prove(name, model, "exact", 1)).forward
    given, wanted = logits_of(forward, PROMPT, CUTS), own_logits(model, PROMPT)
    assert max(distance(one, other) for one, other in zip(given, wanted, strict=True)) < 1e-4


@pytest.mark.parametrize("name", ["llama", "gemma3", "phi3", "qwen2"])
@pytest.mark.parametrize(
    ("dtype", "bits", "group"),
    [
        (mx.bfloat16, None, 0),
        (mx.float16, None, 0),
        (mx.float32, 4, 64),
        (mx.bfloat16, 4, 64),
        (mx.float16, 4, 32),
        (mx.bfloat16, 8, 64),
        (mx.float16, 8, 32),
        (mx.float32, 8, 32),
    ],
    ids=lambda value: str(value).removeprefix("mlx.core."),
)
def test_weights_are_read_as_they_are_stored(name: str, dtype: mx.Dtype, bits: int | None, group: int) -> None:
    model = make(name, dtype=dtype, bits=bits, group=group)
    for arithmetic in ("exact", "fast"):
        forward = drained(prove(name, model, arithmetic, 1)).forward
        given, wanted = logits_of(forward, PROMPT, CUTS), own_logits(model, PROMPT)
        assert max(distance(one, other) for one, other in zip(given, wanted, strict=True)) < 1e-4


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize(("dtype", "bits"), [(mx.float32, None), (mx.bfloat16, 4)], ids=["float32", "4 bits"])
def test_hidden_states_are_those_of_mlx_lm_beside_logits(name: str, dtype: mx.Dtype, bits: int | None) -> None:
    model = make(name, dtype=dtype, bits=bits)
    forward = drained(prove(name, model, "exact", 1)).forward
    with in_float32(model):
        wanted = np.array(model.model(mx.array([PROMPT]), cache=mlxlm.make_prompt_cache(model))[0])
    logits = logits_of(forward, PROMPT, CUTS)
    given = [np.zeros((0, wanted.shape[1]))]
    for row in (1, 2, 3):
        forward.open(row, len(PROMPT))
    for count, end in zip(CUTS, accumulate(CUTS), strict=True):
        tokens = PROMPT[end - count : end]
        parts = [Part(1, count, NEXT_TOKEN), Part(2, count, Hidden(count)), Part(3, count, NEXT_TOKEN)]
        output = forward.run(StepInput(parts, mx.array(tokens * 3)))
        given.append(np.array(output.states()))
        assert all(mx.array_equal(beside, logits[end - 1]) for beside in output.wait())
    apart = np.abs(np.concatenate(given) - wanted).max(axis=1)
    assert (apart < 1e-4 * np.abs(wanted).max(axis=1)).all()


@pytest.mark.parametrize("name", FAMILIES)
def test_greedy_tokens_are_those_of_mlx_lm(name: str) -> None:
    model = make(name)
    forward = drained(prove(name, model, "fast", 1)).forward
    tokens = PROMPT[:20]
    forward.open(1, 60)
    logits = forward.run(StepInput([Part(1, len(tokens), NEXT_TOKEN)], mx.array(tokens))).wait()
    for _ in range(40):
        tokens.append(int(np.argmax(np.array(logits[0]))))
        logits = forward.run(StepInput([Part(1, 1, NEXT_TOKEN)], mx.array(tokens[-1:]))).wait()
    forward.close(1)
    assert tokens[20:] == np.argmax(np.array(own_logits(model, tokens[:-1])), axis=-1)[19:].tolist()


@pytest.mark.parametrize("name", ["llama", "gemma3"])
def test_threads_and_the_cut_into_steps_change_no_bit(name: str) -> None:
    model = make(name, dtype=mx.bfloat16, bits=4)
    one, three = (drained(prove(name, model, "exact", threads)).forward for threads in (1, 3))
    alone = logits_of(one, PROMPT, [1] * len(PROMPT))
    for forward in (one, three):
        for cuts in (CUTS, [150], [64, 64, 22]):
            assert mx.array_equal(logits_of(forward, PROMPT, cuts), alone)


def test_a_model_that_is_stored_in_half_precision_is_as_it_was_afterwards() -> None:
    model = make("gemma3", dtype=mx.bfloat16, bits=4)
    before = [(name, type(module)) for name, module in model.named_modules()]
    norm = model.model.norm.weight
    drained(prove("gemma3", model, "exact", 1))
    assert [(name, type(module)) for name, module in model.named_modules()] == before
    assert model.model.norm.weight is norm


def test_what_is_not_known_is_named() -> None:
    model = make("llama")
    model.model.layers[1].self_attn.sinks = mx.zeros((8,))
    with pytest.raises(NotNative, match="a part sinks"):
        drained(prove("llama", model, "exact", 1))
    quantised = make("llama", bits=3, group=32)
    with pytest.raises(NotNative, match="3 bits"):
        drained(prove("llama", quantised, "exact", 1))


def test_a_model_whose_logits_are_others_than_mlx_lm_s_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    model = make("llama")
    original = type(model).__call__

    def other(self: Any, *args: Any, **kwargs: Any) -> mx.array:
        logits: mx.array = original(self, *args, **kwargs)
        return logits[..., ::-1]

    monkeypatch.setattr(type(model), "__call__", other)
    with pytest.raises(NotNative, match="others than those of mlx-lm"):
        drained(prove("llama", model, "exact", 1))


@pytest.mark.parametrize(
    ("name", "change", "because"),
    [
        (
            "smollm3",
            {"layer_types": ["sliding_attention", "full_attention", "full_attention"]},
            "a layer keeps 0 tokens",
        ),
        ("llama, windows", {"sliding_window": 1}, "a layer keeps 1 tokens"),
    ],
)
def test_a_window_that_native_code_would_not_keep_is_named(name: str, change: dict[str, Any], because: str) -> None:
    config: dict[str, Any] = {"sliding_window": 32} | change
    with pytest.raises(NotNative, match=because):
        drained(prove(name, make(name, **config), "exact", 1))


@pytest.mark.parametrize(("dtype", "bits"), [(mx.float32, None), (mx.bfloat16, 4)])
def test_a_small_difference_is_found_however_the_weights_are_stored(
    monkeypatch: pytest.MonkeyPatch, dtype: mx.Dtype, bits: int | None
) -> None:
    def scaled(*args: Any) -> Any:
        spec = read_spec(*args)
        layers = list(spec.layers)
        for layer in layers:
            layer.scale *= 1.05
        spec.layers = layers
        return spec

    monkeypatch.setattr(forward_module, "read_spec", scaled)
    with pytest.raises(NotNative, match="others than those of mlx-lm"):
        drained(prove("llama", make("llama", dtype=dtype, bits=bits), "exact", 1))
