"""Model directories, sound and unsound. No mlx: headers are made by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlx_sidecar.models.weights import UNBOUNDED_CONTEXT, inspect, warm_up
from mlx_sidecar_protocol.errors import ModelLoadFailed, ModelNotFound, ModelUnsupported

CONFIG = {"model_type": "llama", "max_position_embeddings": 2048}
TENSORS = {
    "a": {"dtype": "BF16", "shape": [4, 8], "data_offsets": [0, 64]},
    "b": {"dtype": "U32", "shape": [4], "data_offsets": [64, 80]},
}


def safetensors(header: Any = TENSORS, data: int = 80) -> bytes:
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + bytes(data)


def directory(path: Path, config: Any = CONFIG, **files: bytes) -> str:
    (path / "config.json").write_text(config if isinstance(config, str) else json.dumps(config))
    for name, content in ({"model.safetensors": safetensors()} | files).items():
        (path / name).write_bytes(content)
    return str(path)


def test_a_sound_directory_tells_its_size(tmp_path: Path) -> None:
    found = inspect("m", directory(tmp_path, {**CONFIG, "quantization": {"bits": 8, "group_size": 32}}))
    assert found.context_length == 2048
    assert found.loaded_bytes(None) == 80
    assert found.loaded_bytes("float32") == 32 * 4 + 4 * 4 * 4  # four values of eight bits in each packed word
    assert found.stored_bytes == (tmp_path / "model.safetensors").stat().st_size


def test_context_is_found_in_the_text_config_and_bounded_without(tmp_path: Path) -> None:
    assert inspect("m", directory(tmp_path, {"model_type": "x", "text_config": {"n_ctx": 7}})).context_length == 7
    assert inspect("m", directory(tmp_path, {"model_type": "x"})).context_length == UNBOUNDED_CONTEXT


@pytest.mark.parametrize(
    ("config", "because"),
    [
        ("{", "config.json cannot be read"),
        ("[]", "no JSON object"),
        ("{}", "names no model_type"),
        ('{"model_type": 3}', "names no model_type"),
        ("[" * 100_000, "config.json cannot be read"),
    ],
)
def test_a_bad_config_is_told(tmp_path: Path, config: str, because: str) -> None:
    with pytest.raises(ModelLoadFailed, match=because):
        inspect("m", directory(tmp_path, config))


def test_what_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound):
        inspect("m", str(tmp_path / "nowhere"))
    with pytest.raises(ModelLoadFailed, match=r"no config\.json"):
        inspect("m", str(tmp_path))
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    with pytest.raises(ModelLoadFailed, match="safetensors"):
        inspect("m", str(tmp_path))
    index = json.dumps({"weight_map": {"a": "model-00002-of-00002.safetensors"}}).encode()
    with pytest.raises(ModelLoadFailed, match=r"model-00002-of-00002\.safetensors"):
        inspect("m", directory(tmp_path, **{"model.safetensors.index.json": index}))


def test_pickles_and_code_are_never_read(tmp_path: Path) -> None:
    with pytest.raises(ModelUnsupported, match="its own code"):
        inspect("m", directory(tmp_path, {**CONFIG, "model_file": "evil.py"}))
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    (tmp_path / "model.safetensors").unlink()
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(ModelUnsupported, match=r"pytorch_model\.bin"):
        inspect("m", str(tmp_path))


@given(cut=st.integers(0, len(safetensors()) - 1))
def test_a_truncated_file_is_damaged_wherever_it_ends(tmp_path_factory: pytest.TempPathFactory, cut: int) -> None:
    path = directory(tmp_path_factory.mktemp("cut"), **{"model.safetensors": safetensors()[:cut]})
    with pytest.raises(ModelLoadFailed, match="damaged"):
        inspect("m", path)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(json_values)
def test_a_header_of_nonsense_is_damaged(tmp_path_factory: pytest.TempPathFactory, header: Any) -> None:
    path = directory(tmp_path_factory.mktemp("header"), **{"model.safetensors": safetensors(header, data=3)})
    with pytest.raises(ModelLoadFailed, match="damaged"):
        inspect("m", path)


@given(st.lists(st.integers(0, 40), max_size=4), st.integers(1, 16))
def test_warming_up_reads_every_byte_in_bounded_chunks(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], chunk: int
) -> None:
    root = tmp_path_factory.mktemp("warm")
    files = tuple(root / str(number) for number in range(len(sizes)))
    for file, size in zip(files, sizes, strict=True):
        file.write_bytes(bytes(size))
    counts = list(warm_up(files, chunk))
    assert sum(counts) == sum(sizes)
    assert all(0 < count <= chunk for count in counts)
