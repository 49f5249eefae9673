"""The Dense modules of a checkpoint: read as sentence-transformers writes them, else refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlx_sidecar.checkpoint.dense import DenseFile, read_dense
from mlx_sidecar.checkpoint.embedding import read_embedding
from mlx_sidecar_protocol.errors import ModelLoadFailed
from tests.support.encoder_models import write_dense

KINDS = ["Transformer", "Pooling", "Dense", "Dense", "Normalize"]


def changed(folder: Path, **config: Any) -> Path:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | config))
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_dense(tmp_path / "2_Dense", 8, 5)
    return tmp_path / "2_Dense"


def modules(directory: Path, *kinds: str) -> Path:
    """Write the list of modules, whose folders are numbered."""
    named = [{"type": f"sentence_transformers.models.{kind}", "path": f"{i}_{kind}"} for i, kind in enumerate(kinds)]
    (directory / "modules.json").write_text(json.dumps(named))
    return directory


@pytest.mark.parametrize("bias", [True, False])
def test_a_module_has_the_sizes_and_the_activation_of_its_config(tmp_path: Path, bias: bool) -> None:
    write_dense(tmp_path, 8, 5, bias=bias, activation="torch.nn.modules.linear.Identity")
    read = read_dense("m", tmp_path)
    assert isinstance(read, DenseFile)
    assert read == DenseFile(tmp_path / "model.safetensors", 8, 5, bias, "identity")
    assert read.parameters == 40 + 5 * bias


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ({"activation_function": "torch.nn.modules.activation.Softmax"}, "Softmax"),
        ({"activation_function": None}, "None"),
        ({"module_input_name": "token_embeddings"}, "module_input_name"),
        ({"module_output_name": "other"}, "module_output_name"),
    ],
    ids=str,
)
def test_what_is_not_computed_is_an_objection_by_its_name(folder: Path, config: dict[str, Any], named: str) -> None:
    objection = read_dense("m", changed(folder, **config))
    assert isinstance(objection, str)
    assert named in objection


def test_weights_that_are_pickled_are_an_objection(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    assert "no model.safetensors" in str(read_dense("m", folder))


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ({"in_features": 7}, "linear.weight"),
        ({"out_features": 6}, "linear.weight"),
        ({"bias": False}, "linear.bias"),
        ({"bias": "yes"}, "bias"),
        ({"in_features": 0}, "in_features"),
        ({"out_features": True}, "out_features"),
        ({"out_features": 1 << 40}, "out_features"),
    ],
    ids=str,
)
def test_weights_of_another_shape_than_the_config_says_are_refused_by_name(
    folder: Path, config: dict[str, Any], named: str
) -> None:
    with pytest.raises(ModelLoadFailed, match=named):
        read_dense("m", changed(folder, **config))


def test_weights_that_are_no_floats_or_missing_are_refused_by_name(folder: Path) -> None:
    import mlx.core as mx

    file = str(folder / "model.safetensors")
    mx.save_safetensors(file, {"linear.weight": mx.zeros((5, 8), mx.int32), "linear.bias": mx.zeros(5)})
    with pytest.raises(ModelLoadFailed, match=r"linear\.weight"):
        read_dense("m", folder)
    mx.save_safetensors(file, {"linear.weight": mx.zeros((5, 8))})
    with pytest.raises(ModelLoadFailed, match=r"linear\.bias"):
        read_dense("m", folder)


def test_modules_pass_their_numbers_on(tmp_path: Path) -> None:
    write_dense(tmp_path / "2_Dense", 8, 5)
    write_dense(tmp_path / "3_Dense", 5, 6, seed=1)
    found = read_embedding("m", modules(tmp_path, *KINDS))
    assert [(each.inputs, each.outputs) for each in found.dense] == [(8, 5), (5, 6)]
    assert (found.objection, found.normalize) == ("", True)
    write_dense(tmp_path / "3_Dense", 4, 6)
    with pytest.raises(ModelLoadFailed, match="3_Dense takes 4 numbers"):
        read_embedding("m", modules(tmp_path, *KINDS))


@given(kinds=st.permutations(KINDS))
def test_modules_in_any_other_order_are_an_objection(
    tmp_path_factory: pytest.TempPathFactory, kinds: list[str]
) -> None:
    directory = tmp_path_factory.mktemp("order")
    for i, kind in enumerate(kinds):
        if kind == "Dense":
            write_dense(directory / f"{i}_Dense", 8, 8)
    found = read_embedding("m", modules(directory, *kinds))
    assert (found.objection == "") == (kinds == KINDS)
    assert len(found.dense) == (2 if kinds == KINDS else 0)
