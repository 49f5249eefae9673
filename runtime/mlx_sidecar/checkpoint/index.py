"""Finds the file that holds each tensor of a model directory, from its index and headers."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from mlx_sidecar_protocol.errors import ModelLoadFailed, ModelUnsupported

from .file_checks import INDEX_LIMIT_BYTES, is_file, read_json
from .file_numbers import shown
from .headers import HEADERS_LIMIT_BYTES, Tensor, read_header

INDEX = "model.safetensors.index.json"
_OTHER_FORMATS = (".bin", ".pt", ".pth", ".gguf", ".npz")  # reading the first three may run code
_SHARD = re.compile(r"(.*)-(\d{5,6})-of-(\d{5,6})\.safetensors")
_FILES_LIMIT = 2048  # models of 10^12 parameters come in some hundreds
_TENSORS_LIMIT = 1 << 18  # and, expert by expert, with 140,000 tensors


class WeightFile(NamedTuple):
    """A file of weights and its tensors that belong to the model; it may hold others."""

    path: Path
    tensors: tuple[Tensor, ...]


def weight_files(model: str, directory: Path) -> tuple[WeightFile, ...]:
    """The files in ``directory`` that hold the model's weights; if there is an index, only those that it names.

    Without an index they are all ``model*.safetensors``; these must have no tensor name twice and miss no shard.

    Raises ModelUnsupported for weights of other formats, ModelLoadFailed for missing, damaged or ambiguous files.
    """
    if not is_file(directory / INDEX, INDEX_LIMIT_BYTES, model):
        files = _without_index(model, directory)
        return _unambiguous(model, _read_headers(model, files))
    weight_map = _weight_map(model, directory)
    found = _read_headers(model, [directory / name for name in sorted(set(weight_map.values()))])
    _check_map(model, weight_map, found)
    return _unambiguous(model, [_chosen(file, weight_map) for file in found])


def _weight_map(model: str, directory: Path) -> dict[str, str]:
    """Names of tensors to names of files, all of which exist."""
    weight_map = read_json(directory / INDEX, INDEX_LIMIT_BYTES, model).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise ModelLoadFailed(model, f"{INDEX} has no weight_map")
    names = {name if isinstance(name, str) else shown(name) for name in weight_map.values()}
    if outside := sorted(name for name in names if not is_plain(name)):
        raise ModelLoadFailed(model, f"{INDEX} names a file outside its directory: {shown(outside[0])}")
    if others := sorted(name for name in names if not name.endswith(".safetensors")):
        raise ModelLoadFailed(model, f"{INDEX} names what is no safetensors: {shown(others[0])}")
    if missing := sorted(name for name in names if not is_file(directory / name, float("inf"), model)):
        raise ModelLoadFailed(model, f"{len(missing)} of its files are missing: {shown(missing[0])}")
    return weight_map


def _check_map(model: str, weight_map: Mapping[str, str], files: Iterable[WeightFile]) -> None:
    held = {(tensor.name, file.path.name) for file in files for tensor in file.tensors}
    names = {name for name, _ in held}
    for name, file in weight_map.items():
        # A tensor in no file at all was dropped on saving, like the head of a model that shares its embedding; a
        # missing one is noticed when the model is built.
        if (name, file) not in held and name in names:
            because = f"{INDEX} says that {shown(name)} is in {file}, which does not hold it"
            raise ModelLoadFailed(model, because)


def _chosen(file: WeightFile, weight_map: Mapping[str, str]) -> WeightFile:
    """``file`` without the tensors that the index takes from other files."""
    name = file.path.name
    return WeightFile(file.path, tuple(each for each in file.tensors if weight_map.get(each.name, name) == name))


def _without_index(model: str, directory: Path) -> list[Path]:
    files = sorted(directory.glob("model*.safetensors"))
    if not files:
        _refuse(model, directory)
    if odd := [file.name for file in files if not file.name.isprintable()]:
        raise ModelLoadFailed(model, f"{shown(odd[0])} is no name of a file")
    names = {file.name for file in files}
    for name in sorted(names):
        if (shard := _SHARD.fullmatch(name)) is not None:
            stem, digits, total = shard[1], len(shard[2]), shard[3]
            count = min(int(total), _FILES_LIMIT)
            shards = (f"{stem}-{number:0{digits}}-of-{total}.safetensors" for number in range(1, count + 1))
            if (missing := next((each for each in shards if each not in names), None)) is not None:
                raise ModelLoadFailed(model, f"one of its files is missing: {missing}")
    return files


def _refuse(model: str, directory: Path) -> None:
    """Raise an error that names a weight file found instead of ``model*.safetensors``."""
    names = sorted(shown(file.name) for file in directory.iterdir() if file.suffix in (*_OTHER_FORMATS, ".safetensors"))
    others = [name for name in names if not name.endswith(".safetensors'")]
    if others and len(others) == len(names):
        raise ModelUnsupported(model, f"its weights are no safetensors: {others[0]}")
    instead = f"; without {INDEX}, {names[0]} is not read" if names else ""
    raise ModelLoadFailed(model, f"there is no model*.safetensors in {directory}{instead}")


def _read_headers(model: str, files: list[Path]) -> list[WeightFile]:
    if len(files) > _FILES_LIMIT:
        raise ModelLoadFailed(model, f"its weights lie in {len(files)} files, the limit is {_FILES_LIMIT}")
    found: list[WeightFile] = []
    read_bytes = count = 0
    for file in files:
        tensors, header_bytes = read_header(model, file)
        found.append(WeightFile(file, tuple(tensors)))
        read_bytes += header_bytes
        if read_bytes > HEADERS_LIMIT_BYTES:
            raise ModelLoadFailed(model, f"its headers are longer than {HEADERS_LIMIT_BYTES} bytes")
        if (count := count + len(tensors)) > _TENSORS_LIMIT:
            raise ModelLoadFailed(model, f"it has more than {_TENSORS_LIMIT} tensors")
    return found


def _unambiguous(model: str, files: list[WeightFile]) -> tuple[WeightFile, ...]:
    """``files`` without empty ones. Raises ModelLoadFailed if two files hold a tensor of one name."""
    counts = Counter(tensor.name for file in files for tensor in file.tensors)
    name, count = next(iter(counts.most_common(1)), ("", 0))
    if count > 1:
        where = [file.path.name for file in files if any(tensor.name == name for tensor in file.tensors)]
        raise ModelLoadFailed(
            model, f"{shown(name)} is in {where[0]} and in {where[1]}, and no index says which counts"
        )
    return tuple(file for file in files if file.tensors)


def is_plain(name: object) -> bool:
    """Whether ``name`` is a plain file name, not a path."""
    return isinstance(name, str) and name.isprintable() and name not in ("", ".", "..") and not set(name) & {"/", "\\"}
