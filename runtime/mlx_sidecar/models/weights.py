"""What a model directory says about itself, before any of it is loaded. Reads headers, not weights; knows no mlx."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import inf, prod
from pathlib import Path
from typing import Any, NamedTuple

from mlx_sidecar_protocol.errors import ModelLoadFailed, ModelNotFound, ModelUnsupported

from ..regular import FILE_LIMIT_BYTES, INDEX_LIMIT_BYTES, is_file
from .policy import Dtype

_CONTEXT_KEYS = ("max_position_embeddings", "n_positions", "max_seq_len", "max_sequence_length", "seq_length", "n_ctx")
# Recurrent models name no limit and have none; a sequence is bounded all the same.
UNBOUNDED_CONTEXT = 1 << 20

_BYTES = {
    **dict.fromkeys(("F64", "I64", "U64", "C64"), 8),
    **dict.fromkeys(("F32", "I32", "U32"), 4),
    **dict.fromkeys(("F16", "BF16", "I16", "U16"), 2),
    **dict.fromkeys(("I8", "U8", "BOOL", "F8_E4M3", "F8_E5M2", "F8_E8M0"), 1),
}
_OTHER_FORMATS = (".bin", ".pt", ".pth", ".gguf", ".npz")  # reading the first three may run code
_HEADER_LIMIT_BYTES = 32 * 2**20  # the format allows three times as much, models in use have a tenth
# mlx-lm imports ``mlx_lm.models.<model_type>``: no dots, no paths.
_MODEL_TYPE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
_LAYERS_LIMIT = 4096  # it builds as many as the config says before it looks at the weights


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


def inspect(model: str, path: str, *, trust_remote_code: bool = False) -> Directory:
    """Read config and headers.

    Raises ``ModelNotFound`` for no directory, ``ModelUnsupported`` for pickles, and for code unless it is trusted,
    ``ModelLoadFailed`` for damage and for what is too large or no regular file.
    """
    directory = Path(path)
    if not directory.is_dir():
        raise ModelNotFound(model, f"{path} is no directory")
    config = _read_json(model, directory / "config.json")
    _check_config(model, config)
    if config.get("model_file") is not None:
        _check_code(model, directory, config["model_file"], trust_remote_code)
    for name in ("generation_config.json", "hf_quant_config.json"):  # mlx-lm reads them, and we do not
        is_file(directory / name, FILE_LIMIT_BYTES, model)
    files = _weight_files(model, directory)
    tensors = tuple(tensor for file in files for tensor in _header(model, file))
    return Directory(directory, config, files, tensors)


def inspect_adapter(model: str, adapter: str) -> None:
    """Look at an adapter before mlx-lm reads it.

    Raises ``ModelNotFound`` for no directory with both files, ``ModelLoadFailed`` for damage.
    """
    directory = Path(adapter)
    config, weights = directory / "adapter_config.json", directory / "adapters.safetensors"
    if not (is_file(config, FILE_LIMIT_BYTES, model) and is_file(weights, inf, model)):
        raise ModelNotFound(adapter, "there is no such adapter")
    parameters = _read_json(model, config).get("lora_parameters")
    rank = parameters.get("rank") if isinstance(parameters, dict) else None
    if isinstance(rank, int) and not 0 < rank <= _LAYERS_LIMIT:
        raise ModelLoadFailed(model, f"adapter_config.json: a rank of {rank} is no rank")
    for _ in _header(model, weights):
        pass


def _check_config(model: str, config: dict[str, Any]) -> None:
    if not isinstance(config.get("model_type"), str):
        raise ModelLoadFailed(model, "config.json names no model_type")
    if _MODEL_TYPE.fullmatch(config["model_type"]) is None:
        raise ModelUnsupported(model, f"{config['model_type'][:64]!r} is no name of an architecture")
    text_config = config.get("text_config")
    for part in (config, text_config if isinstance(text_config, dict) else {}):
        for key, value in part.items():
            if "layer" in key and isinstance(value, int) and value > _LAYERS_LIMIT:
                raise ModelLoadFailed(model, f"config.json: {key} is above {_LAYERS_LIMIT}")


def _check_code(model: str, directory: Path, file: object, trusted: bool) -> None:
    if not trusted:
        because = f"it brings its own code ({str(file)[:64]}), which is run only under serve --trust-remote-code"
        raise ModelUnsupported(model, because)
    if not (_plain(file) and is_file(directory / str(file), FILE_LIMIT_BYTES, model)):
        raise ModelLoadFailed(model, f"model_file is no file in its directory: {str(file)[:64]}")


def _plain(name: object) -> bool:
    """Whether it is a file's name and not the way to another directory."""
    return isinstance(name, str) and name not in ("", ".", "..") and not set(name) & {"/", "\\", "\0"}


def _weight_files(model: str, directory: Path) -> tuple[Path, ...]:
    files = tuple(sorted(directory.glob("model*.safetensors")))
    if not files:
        if others := sorted(file.name for file in directory.iterdir() if file.suffix in _OTHER_FORMATS):
            raise ModelUnsupported(model, f"its weights are no safetensors: {others[0]}")
        raise ModelLoadFailed(model, f"there is no model*.safetensors in {directory}")
    index = directory / "model.safetensors.index.json"
    if is_file(index, INDEX_LIMIT_BYTES, model):
        weight_map = _read_json(model, index, INDEX_LIMIT_BYTES).get("weight_map", {})
        if not isinstance(weight_map, dict):
            raise ModelLoadFailed(model, f"{index.name} has no weight_map")
        named = set(map(str, weight_map.values()))
        if outside := sorted(name for name in named if not _plain(name)):
            raise ModelLoadFailed(model, f"{index.name} names a file outside its directory: {outside[0][:64]!r}")
        if missing := sorted(named - {file.name for file in files}):
            raise ModelLoadFailed(model, f"{len(missing)} of its files are missing: {missing[0]}")
    return files


def _header(model: str, file: Path) -> Iterator[tuple[str, str, int]]:
    """(name, type, elements) of each tensor in ``file``, all of which lie in it, one after the other.

    mlx believes what a header says, and does not survive all that it could say.
    """
    is_file(file, inf, model)
    size = file.stat().st_size
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if size < 8 or length > min(size - 8, _HEADER_LIMIT_BYTES):
            raise ModelLoadFailed(model, f"{file.name} is damaged: its header does not fit into it")
        text = stream.read(length)
    try:
        header = json.loads(text, object_pairs_hook=_unique)
        header.pop("__metadata__", None)
        tensors = sorted((_tensor(name, tensor) for name, tensor in header.items()), key=lambda tensor: tensor.begin)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ModelLoadFailed(model, f"{file.name} is damaged: its header cannot be read") from error
    end = 0
    for tensor in tensors:
        if tensor.begin != end:
            raise ModelLoadFailed(model, f"{file.name} is damaged: {tensor.name[:64]!r} does not follow the one before")
        end = tensor.end
    if size != (should := end + 8 + length):
        raise ModelLoadFailed(model, f"{file.name} is damaged: it should have {should} bytes, not {size}")
    for tensor in tensors:
        yield tensor.name, tensor.kind, tensor.elements


class _Tensor(NamedTuple):
    name: str
    kind: str
    elements: int
    begin: int
    end: int


def _tensor(name: str, described: dict[str, Any]) -> _Tensor:
    """Raises ValueError, KeyError or TypeError for what describes no tensor."""
    kind, shape, (begin, end) = described["dtype"], described["shape"], described["data_offsets"]
    # mlx keeps extents in 32 bits.
    if not (
        isinstance(kind, str)
        and isinstance(shape, list)
        and all(map(_is_size, (begin, end)))
        and all(_is_size(extent) and extent < 2**31 for extent in shape)
    ):
        raise ValueError(name)
    if begin > end or (kind in _BYTES and prod(shape) * _BYTES[kind] != end - begin):
        raise ValueError(name)
    return _Tensor(name, kind, prod(shape), begin, end)


def _is_size(value: object) -> bool:
    return type(value) is int and 0 <= value < 2**62


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Which of two tensors of one name counts is not for us to guess."""
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("a name comes twice")
    return made


def _read_json(model: str, file: Path, limit_bytes: int = FILE_LIMIT_BYTES) -> dict[str, Any]:
    is_file(file, limit_bytes, model)
    try:
        value = json.loads(file.read_bytes())
    except FileNotFoundError as error:
        raise ModelLoadFailed(model, f"there is no {file.name}") from error
    except (ValueError, RecursionError, OSError) as error:
        raise ModelLoadFailed(model, f"{file.name} cannot be read: {error}") from error
    if not isinstance(value, dict):
        raise ModelLoadFailed(model, f"{file.name} is no JSON object")
    return value


def warm_up(files: tuple[Path, ...], chunk_bytes: int, read: Callable[[memoryview], object]) -> Iterator[int]:
    """Read ``files`` into the page cache, ``chunk_bytes`` at a time; the size of each chunk, which ``read`` is given.

    One hint for a whole file is ignored by the kernel, so they are really read.
    """
    buffer = memoryview(bytearray(chunk_bytes))
    for file in files:
        with file.open("rb", buffering=0) as stream:
            while count := os.readv(stream.fileno(), [buffer]):
                read(buffer[:count])
                yield count
