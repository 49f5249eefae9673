"""The file that each tensor is read from. No mlx: files are made by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlx_sidecar.checkpoint.index import INDEX, weight_files
from mlx_sidecar_protocol.errors import ModelLoadFailed, ModelUnsupported

ONE, TWO = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"


def write(directory: Path, name: str, *tensors: str) -> None:
    header = {
        each: {"dtype": "F32", "shape": [1], "data_offsets": [4 * n, 4 * n + 4]} for n, each in enumerate(tensors)
    }
    text = json.dumps(header).encode()
    (directory / name).write_bytes(len(text).to_bytes(8, "little") + text + bytes(4 * len(tensors)))


def index(directory: Path, weight_map: Any) -> None:
    (directory / INDEX).write_text(json.dumps({"weight_map": weight_map}))


def taken(directory: Path) -> dict[str, str]:
    """Return tensors with the files that they are read from."""
    return {tensor.name: file.path.name for file in weight_files("m", directory) for tensor in file.tensors}


def test_the_index_decides_which_of_two_tensors_of_one_name_counts(tmp_path: Path) -> None:
    write(tmp_path, ONE, "a", "b")
    write(tmp_path, TWO, "b", "c")
    index(tmp_path, {"a": ONE, "b": TWO, "c": TWO})
    assert taken(tmp_path) == {"a": ONE, "b": TWO, "c": TWO}


def test_a_file_that_the_index_does_not_name_is_not_opened(tmp_path: Path) -> None:
    write(tmp_path, "model.safetensors", "a")
    (tmp_path / TWO).write_bytes(b"no weights at all")
    index(tmp_path, {"a": "model.safetensors"})
    assert taken(tmp_path) == {"a": "model.safetensors"}


def test_a_tensor_that_the_index_forgot_is_read_from_the_file_it_is_in(tmp_path: Path) -> None:
    write(tmp_path, ONE, "a", "forgotten")
    write(tmp_path, TWO, "b")
    index(tmp_path, {"a": ONE, "b": TWO})
    assert taken(tmp_path)["forgotten"] == ONE
    write(tmp_path, TWO, "b", "forgotten")
    with pytest.raises(ModelLoadFailed, match=r"'forgotten' is in .* and in .*, and no index says which counts"):
        taken(tmp_path)


def test_weights_under_another_name_are_read_where_the_index_names_them(tmp_path: Path) -> None:
    write(tmp_path, "consolidated.safetensors", "a")
    index(tmp_path, {"a": "consolidated.safetensors"})
    assert taken(tmp_path) == {"a": "consolidated.safetensors"}


def test_without_an_index_all_files_count_if_no_two_hold_the_same(tmp_path: Path) -> None:
    write(tmp_path, ONE, "a")
    write(tmp_path, TWO, "b")
    assert taken(tmp_path) == {"a": ONE, "b": TWO}
    write(tmp_path, TWO, "b", "a")
    with pytest.raises(ModelLoadFailed, match=r"'a' is in model-00001.* and in model-00002"):
        taken(tmp_path)


def test_without_an_index_a_missing_shard_is_named(tmp_path: Path) -> None:
    write(tmp_path, "model-00001-of-00003.safetensors", "a")
    write(tmp_path, "model-00003-of-00003.safetensors", "c")
    with pytest.raises(ModelLoadFailed, match=r"missing: model-00002-of-00003\.safetensors"):
        taken(tmp_path)


@pytest.mark.parametrize(
    ("weight_map", "because"),
    [
        (None, "no weight_map"),
        ([], "no weight_map"),
        ({}, "no weight_map"),
        ({"a": "missing.safetensors"}, "files are missing: 'missing.safetensors'"),
        ({"a": "/etc/passwd"}, "outside its directory"),
        ({"a": "../model.safetensors"}, "outside its directory"),
        ({"a": "config.json"}, "no safetensors"),
        ({"a": 3}, "no safetensors"),
        ({"a": None}, "no safetensors"),
        ({"a": ["model.safetensors"]}, "no safetensors"),
        ({"a": "other.safetensors", "c": "model.safetensors"}, "'a' is in other.safetensors, which does not hold it"),
    ],
    ids=str,
)
def test_an_index_that_does_not_fit_is_refused_by_name(tmp_path: Path, weight_map: Any, because: str) -> None:
    write(tmp_path, "model.safetensors", "a")
    write(tmp_path, "other.safetensors", "d")
    index(tmp_path, weight_map)
    with pytest.raises(ModelLoadFailed, match=because):
        taken(tmp_path)


def test_a_tensor_that_was_dropped_when_the_weights_were_saved_is_for_the_model_to_miss(tmp_path: Path) -> None:
    write(tmp_path, "model.safetensors", "a")
    index(tmp_path, {"a": "model.safetensors", "lm_head.weight": "model.safetensors"})
    assert taken(tmp_path) == {"a": "model.safetensors"}


@pytest.mark.parametrize("name", ["model.gguf", "pytorch_model.bin", "consolidated.pt", "weights.npz"])
def test_weights_of_another_format_are_unsupported_by_name(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    with pytest.raises(ModelUnsupported, match=name):
        taken(tmp_path)


@pytest.mark.parametrize("name", ["weights.00.safetensors", "consolidated.safetensors", "adapters.safetensors"])
def test_safetensors_that_no_index_names_are_not_taken_for_the_model(tmp_path: Path, name: str) -> None:
    write(tmp_path, name, "a")
    with pytest.raises(ModelLoadFailed, match=f"'{name}' is not read"):
        taken(tmp_path)


@pytest.mark.parametrize("name", ["[a]", "a b", "ü日本", "*?", "~"])
def test_no_character_of_a_directory_changes_what_is_read(tmp_path: Path, name: str) -> None:
    directory = tmp_path / name
    directory.mkdir()
    write(directory, "model.safetensors", "a")
    assert taken(directory) == {"a": "model.safetensors"}


names = st.sampled_from(["a", "b", "c"])
files = st.sampled_from([ONE, TWO, "model.safetensors"])
values = (
    files
    | st.sampled_from(["", "..", "x.bin", "\ud800", "no.safetensors"])
    | st.none()
    | st.integers()
    | st.lists(files)
)


@given(
    st.dictionaries(files, st.sets(names)),
    st.dictionaries(names, values) | st.lists(names) | st.none() | st.integers(),
)
def test_what_is_read_is_what_the_index_says_and_nothing_twice(
    tmp_path_factory: pytest.TempPathFactory, held: dict[str, set[str]], weight_map: Any
) -> None:
    directory = tmp_path_factory.mktemp("any")
    for name, tensors in held.items():
        write(directory, name, *sorted(tensors))
    index(directory, weight_map)
    try:
        found = weight_files("m", directory)
    except (ModelLoadFailed, ModelUnsupported) as refused:
        refused.message.encode()
        return
    read = [(tensor.name, file.path.name) for file in found for tensor in file.tensors]
    assert dict(read) | {name: file for name, file in weight_map.items() if name in dict(read)} == dict(read)
    assert len(dict(read)) == len(read)
    assert all(name in held[file] for name, file in read)
