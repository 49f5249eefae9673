"""What a model directory says about itself, before any of it is loaded. Reads headers, not weights; knows no mlx."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlx_sidecar_protocol.errors import ModelLoadFailed, ModelNotFound, ModelUnsupported

from .policy import Dtype

_CONTEXT_KEYS = ("max_position_embeddings", "n_positions", "max_seq_len", "max_sequence_length", "seq_length", "n_ctx")
# Recurrent models name no limit and have none; a sequence is bounded all the same.
UNBOUNDED_CONTEXT = 1 << 20

_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "U32": 4, "I16": 2, "U16": 2, "I8": 1, "U8": 1}
_OTHER_FORMATS = (".bin", ".pt", ".pth", ".gguf", ".npz")  # reading the first three may run code
_HEADER_LIMIT_BYTES = 100_000_000  # the format's own limit


@dataclass(frozen=True)
class Directory:
    """A model directory that looks sound: its config, and the name, shape and type of every tensor."""

    path: Path
    config: dict[str, Any]
    files: tuple[Path, ...]
    tensors: tuple[tuple[str, str, int], ...]  # (name, type in the file, elements)

    @property
    def stored_bytes(self) -> int:
        return sum(file.stat().st_size for file in self.files)

    @property
    def quantization(self) -> dict[str, Any] | None:
        text_config = self.config.get("text_config")
        for config in (self.config, text_config if isinstance(text_config, dict) else {}):
            for key in ("quantization", "quantization_config"):
                if isinstance(config.get(key), dict):
                    quantization: dict[str, Any] = config[key]
                    return quantization
        return None

    @property
    def context_length(self) -> int:
        text_config = self.config.get("text_config")
        for config in (self.config, text_config if isinstance(text_config, dict) else {}):
            for key in _CONTEXT_KEYS:
                if isinstance(config.get(key), int) and config[key] > 0:
                    return int(config[key])
        return UNBOUNDED_CONTEXT

    def loaded_bytes(self, dtype: Dtype | None) -> int:
        """What the weights will hold as ``dtype``, or as they are stored. Packed weights unpack."""
        if dtype is None:
            return sum(elements * _BYTES.get(kind, 1) for _, kind, elements in self.tensors)
        size = 4 if dtype == "float32" else 2
        bits = int((self.quantization or {}).get("bits", 4))
        return sum(elements * size * (32 // bits if kind == "U32" else 1) for _, kind, elements in self.tensors)


def inspect(model: str, path: str) -> Directory:
    """Read config and headers.

    Raises ``ModelNotFound`` for no directory, ``ModelUnsupported`` for code or pickles, ``ModelLoadFailed`` for damage.
    """
    directory = Path(path)
    if not directory.is_dir():
        raise ModelNotFound(model, f"{path} is no directory")
    config = _read_json(model, directory / "config.json")
    if not isinstance(config.get("model_type"), str):
        raise ModelLoadFailed(model, "config.json names no model_type")
    if config.get("model_file") is not None:
        raise ModelUnsupported(model, f"it brings its own code ({config['model_file']}), which is never run")
    files = _weight_files(model, directory)
    tensors = tuple(tensor for file in files for tensor in _header(model, file))
    return Directory(directory, config, files, tensors)


def _weight_files(model: str, directory: Path) -> tuple[Path, ...]:
    files = tuple(sorted(directory.glob("model*.safetensors")))
    if not files:
        if others := sorted(file.name for file in directory.iterdir() if file.suffix in _OTHER_FORMATS):
            raise ModelUnsupported(model, f"its weights are no safetensors: {others[0]}")
        raise ModelLoadFailed(model, f"there is no model*.safetensors in {directory}")
    index = directory / "model.safetensors.index.json"
    if index.is_file():
        named = set(map(str, _read_json(model, index).get("weight_map", {}).values()))
        if missing := sorted(named - {file.name for file in files}):
            raise ModelLoadFailed(model, f"{len(missing)} of its files are missing: {missing[0]}")
    return files


def _header(model: str, file: Path) -> Iterator[tuple[str, str, int]]:
    """(name, type, elements) of each tensor in ``file``."""
    size = file.stat().st_size
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if size < 8 or length > min(size - 8, _HEADER_LIMIT_BYTES):
            raise ModelLoadFailed(model, f"{file.name} is damaged: its header does not fit into it")
        text = stream.read(length)
    try:
        header = json.loads(text)
        header.pop("__metadata__", None)
        ends = [0]
        for name, tensor in header.items():
            elements = 1
            for extent in tensor["shape"]:
                elements *= extent
            ends.append(tensor["data_offsets"][1])
            yield name, tensor["dtype"], elements
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelLoadFailed(model, f"{file.name} is damaged: its header cannot be read") from error
    should = max(ends) + 8 + length
    if size != should:
        raise ModelLoadFailed(model, f"{file.name} is damaged: it should have {should} bytes, not {size}")


def _read_json(model: str, file: Path) -> dict[str, Any]:
    try:
        value = json.loads(file.read_bytes())
    except FileNotFoundError as error:
        raise ModelLoadFailed(model, f"there is no {file.name}") from error
    except (ValueError, RecursionError, OSError) as error:
        raise ModelLoadFailed(model, f"{file.name} cannot be read: {error}") from error
    if not isinstance(value, dict):
        raise ModelLoadFailed(model, f"{file.name} is no JSON object")
    return value


def warm_up(files: tuple[Path, ...], chunk_bytes: int) -> Iterator[int]:
    """Read ``files`` into the page cache, ``chunk_bytes`` at a time; the size of each chunk read.

    One hint for a whole file is ignored by the kernel, so they are really read.
    """
    buffer = bytearray(chunk_bytes)
    for file in files:
        with file.open("rb", buffering=0) as stream:
            while count := os.readv(stream.fileno(), [buffer]):
                yield count
