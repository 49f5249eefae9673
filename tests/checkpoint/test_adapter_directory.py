"""The demands on an adapter's directory, and how one is refused that does not meet them."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlx_sidecar.checkpoint.adapter_directory import inspect_low_rank
from mlx_sidecar_protocol.errors import AdapterLoadFailed, AdapterUnsupported
from tests.support.adapters import write_adapter

SHAPES = {"model.layers.0.self_attn.q_proj": (8, 16), "model.layers.1.mlp.down_proj": (32, 8)}


def because(directory: Path, kind: type[AdapterLoadFailed | AdapterUnsupported] = AdapterLoadFailed) -> str:
    with pytest.raises(kind) as caught:
        inspect_low_rank("a", str(directory))
    assert caught.value.details["adapter"] == "a"
    return str(caught.value.details["because"])


@pytest.mark.parametrize("peft", [False, True])
def test_both_formats_tell_the_same_of_an_adapter(tmp_path: Path, peft: bool) -> None:
    found = inspect_low_rank("a", str(write_adapter(tmp_path, SHAPES, rank=4, scale=0.5, peft=peft)))
    assert (found.format, found.rank, found.scale) == ("peft" if peft else "mlx-lm", 4, 0.5)
    assert list(found.pairs) == sorted(SHAPES)
    assert found.parameters == sum(4 * (inputs + outputs) for inputs, outputs in SHAPES.values())


def test_rank_stabilised_scales_are_divided_by_the_root_of_the_rank(tmp_path: Path) -> None:
    write_adapter(tmp_path, SHAPES, rank=4, peft=True, config={"lora_alpha": 6, "use_rslora": True})
    assert inspect_low_rank("a", str(tmp_path)).scale == 6 / math.sqrt(4)


@pytest.mark.parametrize(
    ("peft", "config", "says"),
    [
        (False, {"fine_tune_type": "dora"}, "DoRA"),
        (False, {"fine_tune_type": "full"}, "whole weights"),
        (False, {"fine_tune_type": "ia3"}, "'ia3'"),
        (True, {"use_dora": True}, "DoRA"),
        (True, {"peft_type": "IA3"}, "'IA3'"),
        (True, {"bias": "all"}, "biases"),
        (True, {"modules_to_save": ["lm_head"]}, "whole modules"),
        (True, {"rank_pattern": {"q_proj": 2}}, "rank_pattern"),
        (True, {"alpha_pattern": {"q_proj": 2}}, "alpha_pattern"),
        (True, {"init_lora_weights": "pissa_niter_4"}, "init_lora_weights"),
        (True, {"alora_invocation_tokens": [1, 2]}, "alora_invocation_tokens"),
        (True, {"arrow_config": {"top_k": 2}}, "arrow_config"),
        (True, {"target_parameters": ["experts.gate_up_proj"]}, "target_parameters"),
        (True, {"use_bdlora": {"nblocks": 2}}, "use_bdlora"),
        (True, {"use_qalora": True}, "use_qalora"),
        (True, {"use_rslora": "no"}, "use_rslora"),
    ],
)
def test_what_is_more_than_pairs_of_matrices_is_refused_with_the_reason(
    tmp_path: Path, peft: bool, config: dict[str, Any], says: str
) -> None:
    assert says in because(write_adapter(tmp_path, SHAPES, peft=peft, config=config), AdapterUnsupported)


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({"rank": 0, "scale": 1.0}, "rank"),
        ({"rank": 1 << 20, "scale": 1.0}, "rank"),
        ({"rank": "4", "scale": 1.0}, "rank"),
        ({"rank": 4}, "scale"),
        ({"rank": 4, "scale": float("nan")}, "scale"),
        (None, "lora_parameters"),
    ],
)
def test_a_config_without_a_rank_or_a_scale_is_refused(tmp_path: Path, parameters: Any, says: str) -> None:
    assert says in because(write_adapter(tmp_path, SHAPES, config={"lora_parameters": parameters}))


def test_a_tensor_of_another_rank_is_named(tmp_path: Path) -> None:
    odd = {"model.layers.0.self_attn.q_proj.lora_a": np.zeros((8, 3), np.float32)}
    assert "'model.layers.0.self_attn.q_proj.lora_a' is [8, 3]" in because(write_adapter(tmp_path, SHAPES, tensors=odd))


def test_adapters_of_experts_are_refused_by_their_shape(tmp_path: Path) -> None:
    odd = {"model.layers.0.self_attn.q_proj.lora_a": np.zeros((2, 8, 4), np.float32)}
    assert "experts" in because(write_adapter(tmp_path, SHAPES, tensors=odd))


def test_magnitudes_of_dora_are_refused_by_name(tmp_path: Path) -> None:
    odd = {"model.layers.0.self_attn.q_proj.m": np.zeros(16, np.float32)}
    said = because(write_adapter(tmp_path, SHAPES, tensors=odd), AdapterUnsupported)
    assert "'model.layers.0.self_attn.q_proj.m'" in said


def test_one_of_a_pair_is_refused(tmp_path: Path) -> None:
    odd = {"model.layers.5.self_attn.q_proj.lora_a": np.zeros((8, 4), np.float32)}
    assert "alone" in because(write_adapter(tmp_path, SHAPES, tensors=odd))


def test_whole_numbers_are_refused(tmp_path: Path) -> None:
    odd = {"model.layers.0.self_attn.q_proj.lora_a": np.zeros((8, 4), np.int32)}
    assert "not a float" in because(write_adapter(tmp_path, SHAPES, tensors=odd))


def test_a_directory_without_files_is_refused(tmp_path: Path) -> None:
    assert "no directory" in because(tmp_path / "none")
    assert "there is no adapter_config.json" in because(tmp_path)
    (tmp_path / "adapter_config.json").write_text(json.dumps({}))
    assert "there is neither" in because(tmp_path)


def test_two_formats_in_one_directory_are_refused(tmp_path: Path) -> None:
    write_adapter(write_adapter(tmp_path, SHAPES), SHAPES, peft=True)
    assert "both" in because(tmp_path)


def test_a_file_that_ends_too_early_is_damaged(tmp_path: Path) -> None:
    file = write_adapter(tmp_path, SHAPES) / "adapters.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    assert "damaged" in because(tmp_path)
