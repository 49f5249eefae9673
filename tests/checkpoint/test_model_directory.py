"""Model directories, sound and unsound. No mlx: headers are made by hand."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlx_sidecar.checkpoint.file_checks import FILE_LIMIT_BYTES
from mlx_sidecar.checkpoint.model_directory import UNBOUNDED_CONTEXT, inspect, inspect_adapter, warm_up
from mlx_sidecar_protocol.errors import ModelLoadFailed, ModelNotFound, ModelUnsupported

INDEX = "model.safetensors.index.json"
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
        file.write_bytes(os.urandom(size))
    read = bytearray()
    counts = list(warm_up(files, chunk, read.extend))
    assert read == b"".join(file.read_bytes() for file in files)
    assert sum(counts) == sum(sizes)
    assert all(0 < count <= chunk for count in counts)


F32 = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@pytest.mark.parametrize(
    "tensor",
    [
        {"shape": [3]},
        {"shape": [2**40]},
        {"shape": [2**31, 0]},
        {"shape": [-2, -1]},
        {"shape": [2.0]},
        {"shape": [True, 2]},
        {"shape": "2"},
        {"data_offsets": [8, 0]},
        {"data_offsets": [-8, 0]},
        {"data_offsets": [0, 2**70]},
        {"data_offsets": [0, 8, 8]},
        {"dtype": 4},
    ],
    ids=str,
)
def test_a_tensor_that_is_not_what_it_says_is_damage(tmp_path: Path, tensor: dict[str, Any]) -> None:
    path = directory(tmp_path, **{"model.safetensors": safetensors({"a": {**F32, **tensor}}, data=8)})
    with pytest.raises(ModelLoadFailed, match="damaged"):
        inspect("m", path)


@pytest.mark.parametrize("second", [[0, 8], [4, 12], [12, 20]], ids=["same", "overlapping", "apart"])
def test_tensors_that_do_not_follow_one_another_are_damage(tmp_path: Path, second: list[int]) -> None:
    header = {"a": F32, "b": {**F32, "data_offsets": second}}
    path = directory(tmp_path, **{"model.safetensors": safetensors(header, data=second[1])})
    with pytest.raises(ModelLoadFailed, match="does not follow"):
        inspect("m", path)


def test_two_tensors_of_one_name_are_damage(tmp_path: Path) -> None:
    text = b'{"a": %b, "a": %b}' % (json.dumps(F32).encode(), json.dumps(F32).encode())
    path = directory(tmp_path, **{"model.safetensors": len(text).to_bytes(8, "little") + text + bytes(8)})
    with pytest.raises(ModelLoadFailed, match="cannot be read"):
        inspect("m", path)


def test_a_header_nested_without_end_is_damage(tmp_path: Path) -> None:
    text = b"[" * 200_000
    path = directory(tmp_path, **{"model.safetensors": len(text).to_bytes(8, "little") + text})
    with pytest.raises(ModelLoadFailed, match="cannot be read"):
        inspect("m", path)


@given(
    st.dictionaries(
        st.text(max_size=3),
        st.fixed_dictionaries(
            {
                "dtype": st.sampled_from(["F32", "BF16", "U8", "F4"]),
                "shape": st.lists(st.integers(-1, 4) | st.integers(), max_size=3),
                "data_offsets": st.tuples(st.integers(-1, 40), st.integers(-1, 40)),
            }
        ),
        max_size=3,
    ),
    st.integers(0, 40),
)
def test_what_is_not_damaged_lies_in_its_file_tensor_by_tensor(
    tmp_path_factory: pytest.TempPathFactory, header: dict[str, Any], data: int
) -> None:
    path = directory(tmp_path_factory.mktemp("any"), **{"model.safetensors": safetensors(header, data)})
    try:
        inspect("m", path)
    except ModelLoadFailed:
        return
    spans = sorted(tensor["data_offsets"] for tensor in header.values())
    assert [begin for begin, _ in spans] == [0, *(end for _, end in spans)][: len(spans)]
    assert max((end for _, end in spans), default=0) == data
    assert all(extent >= 0 for tensor in header.values() for extent in tensor["shape"])


@pytest.mark.parametrize("name", ["../other.safetensors", "/etc/passwd", "a\\b", "..", ""])
def test_an_index_that_names_files_elsewhere_is_refused(tmp_path: Path, name: str) -> None:
    index = json.dumps({"weight_map": {"a": name}}).encode()
    with pytest.raises(ModelLoadFailed, match="outside its directory"):
        inspect("m", directory(tmp_path, **{"model.safetensors.index.json": index}))


def test_an_index_of_nonsense_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadFailed, match="no weight_map"):
        inspect("m", directory(tmp_path, **{"model.safetensors.index.json": b'{"weight_map": []}'}))


@pytest.mark.parametrize("model_type", ["../x", "os.path", ".", "llama.evil", "a/b", "", "__init__", "ä" * 100, "a b"])
def test_a_model_type_that_is_no_plain_name_never_reaches_an_import(tmp_path: Path, model_type: str) -> None:
    with pytest.raises(ModelUnsupported, match="no name of an architecture"):
        inspect("m", directory(tmp_path, {"model_type": model_type}))


@pytest.mark.parametrize("where", [{}, {"text_config": {"n_layer": 10**9}}], ids=["", "nested"])
def test_more_layers_than_any_model_has_are_refused_before_they_are_built(tmp_path: Path, where: Any) -> None:
    with pytest.raises(ModelLoadFailed, match="layer"):
        inspect("m", directory(tmp_path, {**CONFIG, **(where or {"num_hidden_layers": 10**9})}))


@pytest.mark.parametrize(
    "name",
    [
        "config.json",
        "generation_config.json",
        "hf_quant_config.json",
        "model.safetensors.index.json",
        "model.safetensors",
    ],
)
def test_a_pipe_in_place_of_a_file_is_refused_and_not_waited_for(tmp_path: Path, name: str) -> None:
    path = directory(tmp_path)
    (tmp_path / name).unlink(missing_ok=True)
    os.mkfifo(tmp_path / name)
    with pytest.raises(ModelLoadFailed, match=f"{name} is no regular file"):
        inspect("m", path)


def test_a_config_that_is_too_large_to_be_read_whole_is_refused(tmp_path: Path) -> None:
    path = directory(tmp_path)
    os.truncate(tmp_path / "config.json", FILE_LIMIT_BYTES + 1)
    with pytest.raises(ModelLoadFailed, match="the limit is"):
        inspect("m", path)


def test_code_is_taken_from_the_directory_alone_and_only_if_it_is_trusted(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text("")
    path = directory(tmp_path, {**CONFIG, "model_file": "own.py"})
    assert inspect("m", path, trust_remote_code=True).config["model_file"] == "own.py"
    for name in ("../own.py", "/tmp/own.py", "missing.py", 3):
        directory(tmp_path, {**CONFIG, "model_file": name})
        with pytest.raises(ModelLoadFailed, match="model_file"):
            inspect("m", path, trust_remote_code=True)


def test_an_adapter_is_looked_at_before_it_is_read(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match="no such adapter"):
        inspect_adapter("m", str(tmp_path))
    (tmp_path / "adapter_config.json").write_text(json.dumps({"lora_parameters": {"rank": 8}}))
    (tmp_path / "adapters.safetensors").write_bytes(safetensors())
    inspect_adapter("m", str(tmp_path))
    (tmp_path / "adapters.safetensors").write_bytes(safetensors()[:-1])
    with pytest.raises(ModelLoadFailed, match="damaged"):
        inspect_adapter("m", str(tmp_path))
    (tmp_path / "adapter_config.json").write_text(json.dumps({"lora_parameters": {"rank": 10**9}}))
    with pytest.raises(ModelLoadFailed, match="rank"):
        inspect_adapter("m", str(tmp_path))
