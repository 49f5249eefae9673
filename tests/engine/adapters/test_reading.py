"""The content of an adapter as it is read for a model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mlx_sidecar.engine.adapters.reading import Content, Wanted, read
from mlx_sidecar.engine.core.adapter import Projection
from mlx_sidecar_protocol.errors import AdapterLoadFailed, AdapterUnsupported, OutOfMemory, RpcError
from tests.support.adapters import write_adapter

PATH = "model.layers.0.self_attn.q_proj"
SHAPES = {PATH: (8, 16)}
MODEL = {PATH: Projection(8, 16), "model.embed_tokens": Projection(0, 0, "it is an embedding")}


def result(directory: Path, limit_bytes: int = 1 << 20) -> Content | RpcError:
    return read(Wanted("m", "a", str(directory), MODEL, limit_bytes)).result


def content(directory: Path) -> Content:
    found = result(directory)
    assert isinstance(found, Content), found
    return found


def test_both_formats_have_the_same_pairs_with_the_scale_in_the_second(tmp_path: Path) -> None:
    one = content(write_adapter(tmp_path / "1", SHAPES, scale=4.0))
    other = content(write_adapter(tmp_path / "2", SHAPES, scale=4.0, peft=True))
    plain = content(write_adapter(tmp_path / "3", SHAPES, scale=1.0))
    assert one.pairs[PATH].a.shape == (4, 8)
    assert one.pairs[PATH].b.shape == (16, 4)
    for which in (0, 1):
        assert np.array_equal(one.pairs[PATH][which], other.pairs[PATH][which])
    assert np.array_equal(one.pairs[PATH].b, 4.0 * plain.pairs[PATH].b)


def test_half_precision_is_read_as_it_is_stored(tmp_path: Path) -> None:
    a = np.arange(32, dtype=np.float32).reshape(8, 4)
    as_bfloat16 = (a.view(np.uint32) >> 16).astype(np.uint16)
    for kind, stored in (("f16", a.astype(np.float16)), ("bf16", as_bfloat16)):
        found = content(write_adapter(tmp_path / kind, SHAPES, tensors={f"{PATH}.lora_a": stored}))
        assert np.array_equal(found.pairs[PATH].a, a.T)


def test_a_digest_names_the_content_of_both_files(tmp_path: Path) -> None:
    digests = [
        content(write_adapter(tmp_path / "1", SHAPES)).card.digest,
        content(write_adapter(tmp_path / "2", SHAPES)).card.digest,
        content(write_adapter(tmp_path / "3", SHAPES, seed=1)).card.digest,
        content(write_adapter(tmp_path / "4", SHAPES, scale=3.0)).card.digest,
    ]
    assert digests[0] == digests[1]
    assert len(set(digests)) == 3


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_numbers_that_are_not_finite_are_refused_by_their_tensor(tmp_path: Path, number: float) -> None:
    b = np.zeros((4, 16), np.float32)
    b[3, 5] = number
    found = result(write_adapter(tmp_path, SHAPES, tensors={f"{PATH}.lora_b": b}))
    assert isinstance(found, AdapterLoadFailed)
    assert f"'{PATH}.lora_b' holds numbers that are not finite" in found.message


def test_a_wrong_shape_is_refused_by_its_tensor(tmp_path: Path) -> None:
    found = result(write_adapter(tmp_path, {PATH: (8, 24)}))
    assert isinstance(found, AdapterLoadFailed)
    assert f"'{PATH}.lora_b' is [4, 24], where the model needs [4, 16]" in found.message


def test_a_module_that_the_model_has_not_is_named(tmp_path: Path) -> None:
    found = result(write_adapter(tmp_path, {"model.layers.9.self_attn.q_proj": (8, 16)}))
    assert isinstance(found, AdapterLoadFailed)
    assert "the model has no 'model.layers.9.self_attn.q_proj'" in found.message


def test_a_module_that_cannot_be_adapted_is_refused_with_the_reason(tmp_path: Path) -> None:
    found = result(write_adapter(tmp_path, {"model.embed_tokens": (8, 16)}))
    assert isinstance(found, AdapterUnsupported)
    assert "it is an embedding; load it as a model of its own" in found.message


def test_an_adapter_beyond_the_bound_is_refused_before_it_is_read(tmp_path: Path) -> None:
    found = result(write_adapter(tmp_path, SHAPES), limit_bytes=100)
    assert isinstance(found, OutOfMemory)
    assert found.details == {"need_bytes": 4 * 4 * (8 + 16), "have_bytes": 100}
