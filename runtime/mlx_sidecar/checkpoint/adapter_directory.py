"""Inspects a low-rank adapter's directory before memory is taken, from its config and the header of its weights."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any, Literal, NamedTuple

from mlx_sidecar_protocol.errors import AdapterLoadFailed, AdapterUnsupported, ModelLoadFailed

from .config_limits import check_values
from .file_checks import FILE_LIMIT_BYTES, is_file, read_json
from .file_numbers import shown
from .headers import Tensor, read_header

Format = Literal["mlx-lm", "peft"]
CONFIG = "adapter_config.json"
FILES: dict[Format, str] = {"mlx-lm": "adapters.safetensors", "peft": "adapter_model.safetensors"}
RANK_LIMIT = 4096
KINDS = ("F32", "F16", "BF16")

_OWN_MODEL = "; load it as a model of its own (load with adapter)"
# Ways of PEFT to begin that change the model's weights as well.
_BEGINNINGS = (True, False, None, "gaussian", "eva", "orthogonal")
# Members of PEFT's config by which an adapter is more than pairs of matrices: what they must be, and what they mean.
_PEFT_PLAIN: dict[str, tuple[tuple[object, ...], str]] = {
    "use_dora": ((False, None), "it is DoRA, which scales whole weights"),
    "bias": (("none", None), "it has biases"),
    "lora_bias": ((False, None), "it has biases"),
    "modules_to_save": ((None, []), "it replaces whole modules"),
    "fan_in_fan_out": ((False, None), "its weights are transposed (fan_in_fan_out)"),
    "rank_pattern": ((None, {}), "its ranks differ (rank_pattern)"),
    "alpha_pattern": ((None, {}), "its scales differ (alpha_pattern)"),
    "layer_replication": ((None, []), "it repeats layers"),
    "trainable_token_indices": ((None, []), "it has embeddings of its own"),
    "megatron_config": ((None,), "it is for Megatron's layers"),
    "alora_invocation_tokens": ((None,), "it adapts only what follows certain tokens (alora_invocation_tokens)"),
    "arrow_config": ((None,), "it chooses among other adapters (arrow_config)"),
    "target_parameters": ((None, []), "it adapts parameters that are no modules (target_parameters)"),
    "use_bdlora": ((False, None), "its matrices are block-diagonal (use_bdlora)"),
    "use_qalora": ((False, None), "its inputs are pooled (use_qalora)"),
    "use_rslora": ((True, False, None), "its use_rslora is neither true nor false"),
}


class TensorPair(NamedTuple):
    """The two tensors of a projection: ``a`` from its inputs to the rank, ``b`` from there to its outputs."""

    a: Tensor
    b: Tensor


@dataclass(frozen=True)
class AdapterDirectory:
    """An adapter that passed the checks; ``pairs`` by the name of the module, ``data_begin`` where tensors begin."""

    path: Path
    format: Format
    rank: int
    scale: float
    pairs: Mapping[str, TensorPair]
    data_begin: int

    @property
    def config_file(self) -> Path:
        return self.path / CONFIG

    @property
    def weights_file(self) -> Path:
        return self.path / FILES[self.format]

    @property
    def parameters(self) -> int:
        return sum(tensor.elements for pair in self.pairs.values() for tensor in pair)


def inspect_low_rank(adapter: str, path: str) -> AdapterDirectory:
    """Read and check the config and the header in directory ``path``.

    Raises ``AdapterUnsupported`` for an adapter that is more than pairs of matrices, ``AdapterLoadFailed`` for files
    that are missing or damaged, and for tensors that do not belong together.
    """
    directory = Path(path)
    try:
        return _inspected(adapter, directory)
    except ModelLoadFailed as error:  # of the readers that models share
        raise AdapterLoadFailed(adapter, str(error.details["because"])) from error


def _inspected(adapter: str, directory: Path) -> AdapterDirectory:
    if not directory.is_dir():
        raise AdapterLoadFailed(adapter, f"{directory} is no directory")
    config = read_json(directory / CONFIG, FILE_LIMIT_BYTES, adapter)
    check_values(adapter, CONFIG, config)
    format_ = _format(adapter, directory)
    rank, scale = _of_mlx_lm(adapter, config) if format_ == "mlx-lm" else _of_peft(adapter, config)
    tensors, header_bytes = read_header(adapter, directory / FILES[format_])
    pairs = _pairs(adapter, format_, tensors, rank)
    return AdapterDirectory(directory, format_, rank, scale, pairs, 8 + header_bytes)


def _format(adapter: str, directory: Path) -> Format:
    found: list[Format] = [name for name, file in FILES.items() if is_file(directory / file, inf, adapter)]
    if len(found) == 2:
        raise AdapterLoadFailed(adapter, f"both {' and '.join(FILES.values())} are there")
    if not found:
        raise AdapterLoadFailed(adapter, f"there is neither {' nor '.join(FILES.values())}")
    return found[0]


def _of_mlx_lm(adapter: str, config: Mapping[str, Any]) -> tuple[int, float]:
    kind = config.get("fine_tune_type", "lora")
    if kind == "dora":
        raise AdapterUnsupported(adapter, f"it is DoRA, which scales whole weights{_OWN_MODEL}")
    if kind == "full":
        raise AdapterUnsupported(adapter, f"it holds whole weights (fine_tune_type full){_OWN_MODEL}")
    if kind != "lora":
        raise AdapterUnsupported(adapter, f"{shown(kind)} is no fine_tune_type that is known")
    parameters = config.get("lora_parameters")
    if not isinstance(parameters, dict):
        raise AdapterLoadFailed(adapter, f"{CONFIG} has no lora_parameters")
    return _rank(adapter, parameters.get("rank")), _number(adapter, "scale", parameters.get("scale"))


def _of_peft(adapter: str, config: Mapping[str, Any]) -> tuple[int, float]:
    if config.get("peft_type") != "LORA":
        raise AdapterUnsupported(adapter, f"its peft_type is {shown(config.get('peft_type'))}, not 'LORA'")
    for name, (plain, because) in _PEFT_PLAIN.items():
        if config.get(name) not in plain:
            raise AdapterUnsupported(adapter, because)
    if (beginning := config.get("init_lora_weights")) not in _BEGINNINGS:
        raise AdapterUnsupported(adapter, f"{shown(beginning)} (init_lora_weights) changes the model's weights as well")
    rank, alpha = _rank(adapter, config.get("r")), _number(adapter, "lora_alpha", config.get("lora_alpha"))
    return rank, alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)


def _rank(adapter: str, value: object) -> int:
    if type(value) is not int or not 0 < value <= RANK_LIMIT:
        raise AdapterLoadFailed(adapter, f"{CONFIG}: a rank of {shown(value)} is not from 1 to {RANK_LIMIT}")
    return value


def _number(adapter: str, name: str, value: object) -> float:
    if type(value) not in (int, float) or not math.isfinite(value):  # type: ignore[arg-type]  # it is a number then
        raise AdapterLoadFailed(adapter, f"{CONFIG}: a {name} of {shown(value)} is no finite number")
    return float(value)  # type: ignore[arg-type]


# The end of a tensor's name: which of the two it is.
_ENDS: dict[Format, dict[str, str]] = {
    "mlx-lm": {".lora_a": "a", ".lora_b": "b"},
    "peft": {".lora_A.weight": "a", ".lora_B.weight": "b"},
}
_PEFT_ROOT = "base_model.model."


def _pairs(adapter: str, format_: Format, tensors: list[Tensor], rank: int) -> dict[str, TensorPair]:
    found: dict[str, dict[str, Tensor]] = {}
    for tensor in tensors:
        end = next((end for end in _ENDS[format_] if tensor.name.endswith(end)), None)
        if end is None:
            raise AdapterUnsupported(adapter, f"{shown(tensor.name)} is no part of a pair of matrices{_OWN_MODEL}")
        if tensor.kind not in KINDS:
            raise AdapterLoadFailed(adapter, f"{shown(tensor.name)} is of type {shown(tensor.kind)}, not a float")
        module = tensor.name.removesuffix(end).removeprefix(_PEFT_ROOT if format_ == "peft" else "")
        found.setdefault(module, {})[_ENDS[format_][end]] = tensor
    if not found:
        raise AdapterLoadFailed(adapter, "it holds no tensors")
    for pair in found.values():
        if len(pair) == 1:
            raise AdapterLoadFailed(adapter, f"{shown(next(iter(pair.values())).name)} is one of a pair, and alone")
    pairs = {module: TensorPair(pair["a"], pair["b"]) for module, pair in sorted(found.items())}
    for a, b in pairs.values():
        for tensor, axis in ((a, _rank_axis(format_, "a")), (b, _rank_axis(format_, "b"))):
            if len(tensor.shape) != 2 or tensor.shape[axis] != rank:
                said = f"{shown(tensor.name)} is {list(tensor.shape)}, which is no matrix of rank {rank}"
                raise AdapterLoadFailed(adapter, said if len(tensor.shape) == 2 else _experts(said, tensor))
    return pairs


def _experts(said: str, tensor: Tensor) -> str:
    return f"{said}; adapters of experts are three-dimensional{_OWN_MODEL}" if len(tensor.shape) == 3 else said


def _rank_axis(format_: Format, which: str) -> int:
    """The axis that is the rank: mlx-lm has a [inputs, rank] and b [rank, outputs], PEFT the transposed."""
    return int(which == "a") if format_ == "mlx-lm" else int(which == "b")
