"""Inspects a model directory before it is loaded, from its config and the headers of its weights, without mlx."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any

from mlx_sidecar_protocol.errors import ModelLoadFailed, ModelNotFound, ModelUnsupported

from ..link.control_messages import Dtype
from .config_limits import LAYERS_LIMIT, check_values
from .file_checks import FILE_LIMIT_BYTES, is_file, read_json
from .file_numbers import context_length, context_lengths, shown
from .headers import BYTES_OF_KIND, Tensor, read_header
from .index import WeightFile, is_plain, weight_files
from .quantization import Quantization, read_quantization

# In tokens, for models without a limit of their own, e.g. recurrent ones.
UNBOUNDED_CONTEXT = 1 << 20
# A cap on computed sizes, which must fit into 64 bits on the link.
_MOST_BYTES = 1 << 62

_DTYPES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16", "F64": "float64"}

# mlx-lm imports ``mlx_lm.models.<model_type>``: no dots, no paths.
_MODEL_TYPE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


@dataclass(frozen=True)
class Directory:
    """A model directory that passed the checks: its config, and its files with their tensors."""

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

    @property
    def parameters(self) -> int:
        """The number of parameters, packed ones unpacked."""
        if self.quantization is None:
            return min(_MOST_BYTES, sum(tensor.elements for tensor in self.tensors))
        return min(_MOST_BYTES, self.quantization.unpacked_elements(self.tensors))

    @property
    def stored_dtype(self) -> str:
        """The number format of most bytes of the weights that are not packed into words."""
        sizes: Counter[str] = Counter()
        for tensor in self.tensors:
            sizes[tensor.kind] += tensor.nbytes if tensor.kind in _DTYPES else 0
        kind = max(sizes, key=sizes.__getitem__, default="")
        return _DTYPES.get(kind, kind)

    def loaded_bytes(self, dtype: Dtype | None) -> int:
        """Bytes of the loaded weights as ``dtype``, with packed ones unpacked; as stored if ``dtype`` is None."""
        if dtype is None:
            return min(_MOST_BYTES, sum(each.nbytes * (2 if self._becomes_half(each) else 1) for each in self.tensors))
        return min(_MOST_BYTES, self.parameters * BYTES_OF_KIND["F32" if dtype == "float32" else "F16"])

    def _becomes_half(self, tensor: Tensor) -> bool:
        """Whether mlx-lm may turn the tensor into bfloat16 on loading, as it does with most block-wise fp8."""
        return tensor.kind == "F8_E4M3" and self.quantization is not None and self.quantization.method == "fp8"


def inspect(model: str, path: str, *, trust_remote_code: bool = False) -> Directory:
    """Read and check the config and the headers in directory ``path``.

    Raises ``ModelNotFound`` if ``path`` is no directory, ``ModelUnsupported`` for weights that are no safetensors and
    for code that is not trusted, ``ModelLoadFailed`` for files that are damaged, too large or no regular files.
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
    """Check the adapter in directory ``adapter``; returns the number of its parameters.

    Raises ``ModelNotFound`` unless the directory holds both files, ``ModelLoadFailed`` for damage.
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
    """Read ``files`` into the page cache in chunks; ``read`` gets each chunk, and its size in bytes is yielded.

    They are really read, because the kernel ignores a hint for a whole file.
    """
    buffer = memoryview(bytearray(chunk_bytes))
    for file in files:
        with file.open("rb", buffering=0) as stream:
            while count := os.readv(stream.fileno(), [buffer]):
                read(buffer[:count])
                yield count
