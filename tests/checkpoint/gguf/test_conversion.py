"""Importing whole files: every architecture loads in mlx-lm, and a file that cannot be imported leaves nothing."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import mlx.core as mx
import mlx_lm.utils
import numpy as np
import pytest
from gguf import GGMLQuantizationType as Kind
from hypothesis import given, settings
from hypothesis import strategies as st

from mlx_sidecar.checkpoint.gguf import conversion
from mlx_sidecar.checkpoint.gguf.conversion import import_gguf
from mlx_sidecar.checkpoint.gguf.header import read_header
from mlx_sidecar.checkpoint.gguf.import_cache import imported_once
from mlx_sidecar.checkpoint.model_directory import inspect
from mlx_sidecar_protocol.errors import ModelLoadFailed, ModelUnsupported, RpcError
from tests.support import ggufs
from tests.support.ggufs import EXAMPLES, HEAD, HEADS, write_example


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "model.gguf"


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_architecture_becomes_a_directory_that_mlx_lm_loads(file: Path, name: str) -> None:
    write_example(file, name, Kind.Q4_0)
    made = import_gguf(file, file.with_suffix(""))
    directory = inspect("m", str(made.path))
    assert directory.quantization is not None
    assert directory.quantization.words == "4 bits, affine, groups of 32"
    model, config = mlx_lm.utils.load_model(made.path, lazy=True)  # strict: no weight is missing or left over
    assert config["max_position_embeddings"] == directory.context_length == 512
    assert model.layers
    assert all(rounding.error < 1e-3 for rounding in made.roundings)
    assert json.loads((made.path / "tokenizer_config.json").read_text())["chat_template"].startswith("{% for m")


def test_halves_and_floats_stay_as_they_are_and_rows_of_queries_go_back(file: Path) -> None:
    write_example(file, "llama")
    made = import_gguf(file, file.with_suffix(""))
    stored: Any = mx.load(str(made.path / "model.safetensors"))
    source = {tensor.name: np.array(tensor.data) for tensor in gguf.GGUFReader(file).tensors}
    np.testing.assert_array_equal(np.array(stored["model.layers.1.mlp.up_proj.weight"]), source["blk.1.ffn_up.weight"])
    ours = np.array(stored["model.layers.0.self_attn.q_proj.weight"]).reshape(HEADS, 2, HEAD // 2, -1)
    theirs = source["blk.0.attn_q.weight"].reshape(HEADS, HEAD // 2, 2, -1)
    np.testing.assert_array_equal(ours[:, 0], theirs[:, :, 0])
    np.testing.assert_array_equal(ours[:, 1], theirs[:, :, 1])
    assert "quantization" not in json.loads((made.path / "config.json").read_text())


def test_norms_of_gemma_lose_the_1_that_gguf_added(file: Path) -> None:
    write_example(file, "gemma3")
    stored: Any = mx.load(str(import_gguf(file, file.with_suffix("")).path / "model.safetensors"))
    source = {tensor.name: np.array(tensor.data) for tensor in gguf.GGUFReader(file).tensors}
    np.testing.assert_array_equal(np.array(stored["model.norm.weight"]), source["output_norm.weight"] - 1)


def test_scaled_rotations_are_found_in_their_factors(file: Path) -> None:
    write_example(file, "llama3")
    config = json.loads((import_gguf(file, file.with_suffix("")).path / "config.json").read_text())
    assert config["rope_scaling"]["rope_type"] == "llama3"
    assert config["rope_scaling"]["factor"] == 8
    assert config["tie_word_embeddings"]


def _with_k_quants(file: Path) -> None:
    """A llama whose matrices have columns enough for K-quants: all Q6_K."""

    def blocks(rows: int, columns: int) -> ggufs.Array:
        rng = np.random.default_rng(rows)
        raw = rng.integers(0, 256, (rows, columns // 256, 210), dtype=np.uint8)
        raw[..., 208:] = np.frombuffer(np.array([0.001], "<f2").tobytes(), np.uint8)
        return raw.reshape(rows, -1)

    writer: Any = gguf.GGUFWriter(file, "llama")
    writer.add_block_count(0)
    writer.add_context_length(64)
    writer.add_embedding_length(256)
    writer.add_feed_forward_length(256)
    writer.add_head_count(2)
    writer.add_layer_norm_rms_eps(1e-5)
    vocabulary = ggufs.add_tokenizer(writer, "gpt2", "gpt-2")
    writer.add_tensor("token_embd.weight", blocks(vocabulary, 256), raw_dtype=Kind.Q6_K)
    writer.add_tensor("output_norm.weight", np.ones(256, np.float32))
    ggufs.close(writer)


def test_k_quants_are_quantised_again_only_when_asked_and_the_error_is_told(file: Path) -> None:
    _with_k_quants(file)
    with pytest.raises(ModelUnsupported, match=r"'token_embd\.weight' is Q6_K.*--requantize auto"):
        import_gguf(file, file.with_suffix(""))
    made = import_gguf(file, file.with_suffix(""), requantize="auto")
    told = {rounding.format: rounding for rounding in made.roundings}
    assert told["Q6_K"].stored == "8 bits"
    assert 0 < told["Q6_K"].error < 0.01
    stored: Any = mx.load(str(made.path / "model.safetensors"))
    weight, scales, biases = (stored[f"model.embed_tokens.{part}"] for part in ("weight", "scales", "biases"))
    (tensor,) = (each for each in gguf.GGUFReader(file).tensors if each.name.startswith("token"))
    original = gguf.quants.dequantize(tensor.data, Kind.Q6_K)
    unpacked = np.array(mx.dequantize(weight, scales, biases, group_size=32, bits=8).astype(mx.float32))
    assert np.abs(unpacked - original).max() < np.abs(original).max() / 100


Change = Callable[[Any], None]
REFUSED: dict[str, tuple[Change, str]] = {
    "a key that may change answers": (
        lambda w: w.add_float32("llama.attention.newest", 1.0),
        r"llama\.attention\.newest",
    ),
    "experts": (lambda w: w.add_expert_count(8), r"llama\.expert_count"),
    "a key of the tokenizer": (lambda w: w.add_bool("tokenizer.ggml.newest", True), r"tokenizer\.ggml\.newest"),
    "a way of scaling rotations": (
        lambda w: w.add_string("llama.rope.scaling.type", "newest"),
        "'newest' is not known",
    ),
    "a tensor": (lambda w: w.add_tensor("blk.0.newest.weight", np.ones(4, np.float32)), r"'blk\.0\.newest\.weight'"),
    "a model in several files": (lambda w: w.add_uint16("split.count", 2), r"split\.count"),
    "a bias that its fellows lack": (
        lambda w: w.add_tensor("blk.0.attn_q.bias", np.ones(64, np.float32)),
        r"blk\.0\.attn_k\.bias is missing",
    ),
}


@pytest.mark.parametrize(("change", "named"), REFUSED.values(), ids=REFUSED)
def test_what_is_not_known_is_refused_by_name_and_leaves_nothing(
    file: Path, monkeypatch: pytest.MonkeyPatch, change: Change, named: str
) -> None:
    plain = ggufs.add_sizes

    def add_sizes(writer: Any, example: ggufs.Example) -> None:
        plain(writer, example)
        change(writer)

    monkeypatch.setattr(ggufs, "add_sizes", add_sizes)
    write_example(file, "llama")
    with pytest.raises(RpcError, match=named):
        import_gguf(file, file.with_suffix(""))
    assert list(file.parent.iterdir()) == [file]


ANY_VALUE: st.SearchStrategy[Any] = st.one_of(
    st.integers(-(2**63), 2**64 - 1),
    st.floats(),
    st.booleans(),
    st.text(max_size=8),
    st.lists(st.text(max_size=4), max_size=3),
    st.lists(st.integers(-9, 9), max_size=3).map(np.array),
)


@settings(max_examples=40, deadline=None)
@given(name=st.sampled_from(["llama", "gemma3", "phi3", "granite", "qwen2 yarn"]), data=st.data())
def test_any_value_of_any_key_is_imported_or_told_by_a_typed_error(
    tmp_path_factory: pytest.TempPathFactory, name: str, data: st.DataObject
) -> None:
    path = tmp_path_factory.getbasetemp() / f"{name}.gguf"
    if not path.is_file():
        write_example(path, name)
    header = read_header(path, "m")
    key = data.draw(st.sampled_from(sorted(header.metadata)))
    changed = header._replace(metadata=header.metadata | {key: data.draw(ANY_VALUE)})
    shutil.rmtree(output := path.with_suffix(""), ignore_errors=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(conversion, "read_header", lambda *_: changed)
        try:
            made = import_gguf(path, output)
        except RpcError:
            return
    inspect("m", str(made.path))
    json.loads((made.path / "config.json").read_text(), parse_constant=pytest.fail)


def test_an_architecture_that_is_not_imported_is_named(file: Path) -> None:
    writer: Any = gguf.GGUFWriter(file, "clip")
    ggufs.close(writer)
    with pytest.raises(ModelUnsupported, match="'clip' is not imported; these are: gemma2"):
        import_gguf(file, file.with_suffix(""))


def test_a_directory_that_is_there_is_not_written_to(file: Path) -> None:
    write_example(file, "llama")
    (output := file.with_suffix("")).mkdir()
    (output / "mine").touch()
    with pytest.raises(ModelLoadFailed, match="is there already"):
        import_gguf(file, output)
    assert [each.name for each in output.iterdir()] == ["mine"]


def test_too_small_a_disk_is_told_before_anything_is_written(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_example(file, "llama")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(100, 50, 50))
    with pytest.raises(ModelLoadFailed, match=r"needs \d+ bytes, the disk has 50"):
        import_gguf(file, file.with_suffix(""))
    assert list(file.parent.iterdir()) == [file]


def test_a_file_that_ends_while_it_is_read_leaves_no_directory(file: Path) -> None:
    write_example(file, "llama")

    def shorten(_: int, __: int) -> None:
        with file.open("r+b") as opened:
            opened.truncate(file.stat().st_size // 2)

    with pytest.raises(ModelLoadFailed, match="the file ends in"):
        import_gguf(file, file.with_suffix(""), on_bytes=shorten)
    assert list(file.parent.iterdir()) == [file]


def test_a_scale_beyond_half_precision_is_refused_and_float32_holds_it(file: Path) -> None:
    writer: Any = gguf.GGUFWriter(file, "llama")
    writer.add_block_count(0)
    writer.add_context_length(64)
    writer.add_embedding_length(32)
    writer.add_feed_forward_length(32)
    writer.add_head_count(2)
    writer.add_layer_norm_rms_eps(1e-5)
    vocabulary = ggufs.add_tokenizer(writer, "gpt2", "gpt-2")
    rows = np.full((vocabulary, 32), 127_000.0, np.float32)
    writer.add_tensor("token_embd.weight", gguf.quants.quantize(rows, Kind.Q8_0), raw_dtype=Kind.Q8_0)
    writer.add_tensor("output_norm.weight", np.ones(32, np.float32))
    ggufs.close(writer)
    with pytest.raises(ModelLoadFailed, match=r"'token_embd\.weight' holds numbers that float16 does not"):
        import_gguf(file, file.with_suffix(""))
    assert import_gguf(file, file.with_suffix(""), dtype="float32").roundings[0].error == 0


def test_a_file_is_imported_once_into_the_cache_and_again_when_it_changed(file: Path, tmp_path: Path) -> None:
    write_example(file, "qwen3")
    cache = tmp_path / "cache"
    first, told = imported_once(file, cache)
    assert told
    stamp = (first / "config.json").stat().st_mtime_ns
    assert imported_once(file, cache) == (first, ())
    assert (first / "config.json").stat().st_mtime_ns == stamp
    write_example(file, "llama")
    assert imported_once(file, cache)[0] != first
