"""How packed weights are described, and their size unpacked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlx_sidecar.checkpoint.headers import Tensor
from mlx_sidecar.checkpoint.quantization import read_quantization
from mlx_sidecar_protocol.errors import ModelLoadFailed


def tensor(name: str, kind: str, *shape: int) -> Tensor:
    size = {"U32": 4, "I32": 4, "BF16": 2, "U8": 1}[kind]
    elements = 1
    for extent in shape:
        elements *= extent
    return Tensor(name, kind, shape, 0, elements * size)


def packed(name: str, rows: int, columns: int, bits: int, group: int) -> list[Tensor]:
    scales = [tensor(f"{name}.{which}", "BF16", rows, columns // group) for which in ("scales", "biases")]
    return [tensor(f"{name}.weight", "U32", rows, columns * bits // 32), *scales]


def test_each_module_is_unpacked_by_its_own_plan(tmp_path: Path) -> None:
    plans = {"group_size": 64, "bits": 4, "embed": {"group_size": 32, "bits": 8}, "plain": False}
    found = read_quantization("m", tmp_path, {"quantization": plans})
    assert found is not None
    tensors = [*packed("embed", 10, 64, 8, 32), *packed("layer", 7, 128, 4, 64), tensor("norm.weight", "BF16", 5)]
    assert found.unpacked_elements(tensors) == 10 * 64 + 7 * 128 + 5
    assert found.words == "4 bits, affine, groups of 64"


def test_a_plan_that_stands_in_a_file_of_its_own_is_found(tmp_path: Path) -> None:
    (tmp_path / "hf_quant_config.json").write_text(json.dumps({"quant_method": "modelopt"}))
    config: dict[str, Any] = {}
    found = read_quantization("m", tmp_path, config)
    assert found is not None
    assert found.words == "modelopt"
    assert config["quantization_config"] == {"quant_method": "modelopt"}


@pytest.mark.parametrize(
    "config",
    [
        {"quantization": 3},
        {"quantization": {"bits": True, "group_size": 32}},
        {"quantization": {"bits": 0, "group_size": 32}},
        {"quantization": {"bits": 4, "group_size": -1}},
        {"quantization": {"bits": 4, "group_size": 32, "mode": "x"}},
        {"quantization": {"bits": 4, "group_size": 32, "a": {"bits": 2**40}}},
        {"quantization_config": []},
        {"quantization_config": {"quant_method": 3}},
        {"quantization_config": {"quant_method": "x" * 100}},
        {"text_config": {"quantization_config": {"quant_method": "awq", "bits": "4"}}},
    ],
    ids=str,
)
def test_a_plan_of_nonsense_is_refused_by_name(tmp_path: Path, config: dict[str, Any]) -> None:
    with pytest.raises(ModelLoadFailed, match=r"config\.json"):
        read_quantization("m", tmp_path, config)


odd = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.integers())


@given(
    st.sampled_from(["quantization", "quantization_config"]),
    st.fixed_dictionaries(
        {},
        optional={
            "bits": odd,
            "group_size": odd,
            "mode": odd | st.just("affine"),
            "quant_method": odd | st.sampled_from(["awq", "mxfp4", "modelopt"]),
            "layer": st.fixed_dictionaries({}, optional={"bits": odd, "group_size": odd}),
        },
    ),
)
def test_whatever_a_plan_says_it_is_refused_or_can_be_reckoned_with(
    tmp_path_factory: pytest.TempPathFactory, key: str, plan: dict[str, Any]
) -> None:
    try:
        found = read_quantization("m", tmp_path_factory.mktemp("plan"), {key: plan})
    except ModelLoadFailed as refused:
        refused.message.encode()
        return
    assert found is not None
    found.words.encode()
    assert found.unpacked_elements([*packed("layer", 2, 64, 4, 32), tensor("alone.weight", "U8", 3)]) >= 0
