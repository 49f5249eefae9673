"""What a model directory says about itself, before any of it is loaded. Reads headers, not weights; knows no mlx."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any

from mlx_sidecar_protocol.errors import ModelLoadFailed, ModelNotFound, ModelUnsupported

from ..link.messages import Dtype
from .config_limits import LAYERS_LIMIT, check_values
from .file_checks import FILE_LIMIT_BYTES, is_file, read_json
from .file_numbers import context_length, context_lengths, shown
from .headers import BYTES_OF_KIND, Tensor, read_header
from .index import WeightFile, is_plain, weight_files
from .quantization import Quantization, read_quantization

# Recurrent models name no limit and have none; a sequence is bounded all the same.
UNBOUNDED_CONTEXT = 1 << 20
# Of weights, in any type: what a figure that crosses the link may be.
_MOST_BYTES = 1 << 62

# mlx-lm imports ``mlx_lm.models.<model_type>``: no dots, no paths.
_MODEL_TYPE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


@dataclass(frozen=True)
class Directory:
    """A model directory that looks sound: its config, and which of its files holds which tensor."""

    path: Path
    config: dict[str, Any]
    weights: tuple[WeightFile, ...]
    quantization: Quantization | None

    @property
    def files(self) -> tuple[Path, ...]:
        return tuple(file.path for file in self.weights)

    @property
    def tensors(self) -> Iterator[Tensor]:
        return (tensor for file in self.weights for tensor in file.tensors)

    @property
    def stored_bytes(self) -> int:
        return sum(file.stat().st_size for file in self.files)

    @property
    def context_length(self) -> int:
        return context_length(*context_lengths(self.config)) or UNBOUNDED_CONTEXT

    def loaded_bytes(self, dtype: Dtype | None) -> int:
        """What the weights will hold as ``dtype``, or as they are stored. Packed weights unpack."""
        if dtype is None:
            return min(_MOST_BYTES, sum(each.nbytes * (2 if self._becomes_half(each) else 1) for each in self.tensors))
        if self.quantization is None:
            elements = sum(tensor.elements for tensor in self.tensors)
        else:
            elements = self.quantization.unpacked_elements(self.tensors)
        return min(_MOST_BYTES, elements * BYTES_OF_KIND["F32" if dtype == "float32" else "F16"])

    def _becomes_half(self, tensor: Tensor) -> bool:
        """mlx-lm makes bfloat16 of block-wise fp8 while it loads; what it keeps packed is counted too high then."""
        return tensor.kind == "F8_E4M3" and self.quantization is not None and self.quantization.method == "fp8"


def inspect(model: str, path: str, *, trust_remote_code: bool = False) -> Directory:
    """Read config and headers.

    Raises ``ModelNotFound`` for no directory, ``ModelUnsupported`` for weights that are no safetensors, and for code
    unless it is trusted, ``ModelLoadFailed`` for damage and for what is too large or no regular file.
    """
    directory = Path(path)
    if not directory.is_dir():
        raise ModelNotFound(model, f"{path} is no directory")
    config = read_json(directory / "config.json", FILE_LIMIT_BYTES, model)
    _check_config(model, config)
    if config.get("model_file") is not None:
        _check_code(model, directory, config["model_file"], trust_remote_code)
    is_file(directory / "generation_config.json", FILE_LIMIT_BYTES, model)  # the text side reads it
    quantization = read_quantization(model, directory, config)
    return Directory(directory, config, weight_files(model, directory), quantization)


def inspect_adapter(model: str, adapter: str) -> int:
    """Look at an adapter before mlx-lm reads it; how many numbers it holds.

    Raises ``ModelNotFound`` for no directory with both files, ``ModelLoadFailed`` for damage.
    """
    directory = Path(adapter)
    config, weights = directory / "adapter_config.json", directory / "adapters.safetensors"
    if not (is_file(config, FILE_LIMIT_BYTES, model) and is_file(weights, inf, model)):
        raise ModelNotFound(adapter, "there is no such adapter")
    described = read_json(config, FILE_LIMIT_BYTES, model)
    check_values(model, config.name, described)
    parameters = described.get("lora_parameters")
    rank = parameters.get("rank") if isinstance(parameters, dict) else None
    if rank is not None and not (type(rank) is int and 0 < rank <= LAYERS_LIMIT):
        raise ModelLoadFailed(model, f"adapter_config.json: a rank of {shown(rank)} is no rank")
    return sum(tensor.elements for tensor in read_header(model, weights)[0])


def _check_config(model: str, config: dict[str, Any]) -> None:
    if not isinstance(config.get("model_type"), str):
        raise ModelLoadFailed(model, "config.json names no model_type")
    if _MODEL_TYPE.fullmatch(config["model_type"]) is None:
        raise ModelUnsupported(model, f"{shown(config['model_type'])} is no name of an architecture")
    check_values(model, "config.json", config)


def _check_code(model: str, directory: Path, file: object, trusted: bool) -> None:
    if not trusted:
        because = f"it brings its own code ({shown(file)}), which is run only under serve --trust-remote-code"
        raise ModelUnsupported(model, because)
    if not (is_plain(file) and is_file(directory / str(file), FILE_LIMIT_BYTES, model)):
        raise ModelLoadFailed(model, f"model_file is no file in its directory: {shown(file)}")


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
