"""The members that a config may have, and how its numbers are read."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlx_sidecar.checkpoint.config_limits import check_values
from mlx_sidecar.checkpoint.file_numbers import context_length, in_short, shown, token_ids
from mlx_sidecar_protocol.errors import ModelLoadFailed


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return {"a": value}


@pytest.mark.parametrize(
    ("config", "because"),
    [
        ({"hidden_size": 2**63}, "'hidden_size' is a number of more than 64 bits"),
        ({"rope_scaling": {"factor": -(10**30)}}, "'factor' is a number"),
        ({"pattern": "M" * 70_000}, "'pattern' is longer"),
        ({"layer_types": [0] * 200_001}, "more than 200000 values"),
        ({"layer_types": [[]] * 200_001}, "more than 200000 values"),
        (nested(64), "nested deeper"),
        ({"text_config": {"num_hidden_layers": 5000}}, "'num_hidden_layers' is above 4096"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_config_that_says_too_much_is_refused_by_name(config: dict[str, Any], because: str) -> None:
    with pytest.raises(ModelLoadFailed, match=because):
        check_values("m", "config.json", config)


def test_what_real_configs_say_is_within_the_limits() -> None:
    config = {"rope_theta": 10**11, "max_position_embeddings": 10_485_760, "layer_types": ["full_attention"] * 128}
    plans = {f"model.layers.{n}.mlp.experts.{e}": {"bits": 4, "group_size": 64} for n in range(60) for e in range(256)}
    check_values("m", "config.json", {**config, "quantization": plans})
    check_values("m", "config.json", {"vocab_size_per_layer_input": 262144, "model_max_length": int(1e30)})


@pytest.mark.parametrize("value", [True, [True], 1.0, "2", [[2]], {"a": 2}, [2, None]], ids=str)
def test_what_is_no_number_is_no_token_id(value: object) -> None:
    with pytest.raises(ModelLoadFailed, match=r"generation_config\.json: eos_token_id is no token id"):
        token_ids(value, "generation_config.json: eos_token_id", "m")


@pytest.mark.parametrize(
    ("value", "ids"), [(None, set()), (2, {2}), ([2, 3], {2, 3}), ([], set()), (-1, set()), ([2, 2**64, -1], {2})]
)
def test_a_number_that_no_token_has_names_none(value: object, ids: set[int]) -> None:
    assert token_ids(value, "config.json: eos_token_id", "m") == ids


def test_more_end_tokens_than_anybody_needs_are_refused() -> None:
    with pytest.raises(ModelLoadFailed, match="lists 5000 tokens"):
        token_ids(list(range(5000)), "config.json: eos_token_id", "m")


@pytest.mark.parametrize(
    ("lengths", "length"),
    [((True, 7), 7), ((10**30,), None), ((0, -3, None, 2.5, "8", 9), 9), ((4096, 8192), 4096), ((), None)],
)
def test_a_length_is_a_positive_number_that_can_be_meant(lengths: tuple[object, ...], length: int | None) -> None:
    assert context_length(*lengths) == length


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters()), inner),
    max_leaves=10,
)


@given(json_values)
def test_whatever_a_file_says_can_be_shown(value: object) -> None:
    text = shown(value)
    assert text.encode().isascii() or text.isprintable()
    assert len(text) <= 70


@given(st.text(st.characters()))
def test_whatever_a_library_says_can_be_sent(text: str) -> None:
    assert len(in_short(ValueError(text * 100)).encode()) < 900


@given(st.dictionaries(st.text(), json_values, max_size=5))
def test_a_config_of_nonsense_is_taken_or_refused(config: dict[str, Any]) -> None:
    try:
        check_values("m", "config.json", config)
    except ModelLoadFailed as refused:
        refused.message.encode()
