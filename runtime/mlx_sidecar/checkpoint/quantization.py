"""Reads how the weights of a model directory are packed, and counts their parameters unpacked, without mlx."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

from mlx_sidecar_protocol.errors import ModelLoadFailed

from .file_checks import FILE_LIMIT_BYTES, is_file, read_json
from .file_numbers import shown
from .headers import Tensor

_MODES = ("affine", "mxfp4", "mxfp8", "nvfp4")
_PACKED = ("U32", "I32", "U8")
_BITS = range(1, 33)
_GROUPS = range(1, 1 << 16)
_MXFP_GROUP = 32


@dataclass(frozen=True)
class Quantization:
    """The packing of a model's weights. ``modules`` have their own plans; ``method`` is None for mlx's own format."""

    bits: int | None
    group_size: int | None
    mode: str | None
    method: str | None
    modules: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def words(self) -> str:
        """A short description, e.g. "4 bits, affine, groups of 64"."""
        if self.bits is None:
            return self.method or "unknown"
        return f"{self.bits} bits, {self.mode or 'affine'}, groups of {self.group_size}"

    def unpacked_elements(self, tensors: Iterable[Tensor]) -> int:
        """The number of parameters in ``tensors`` after unpacking, which consumes scales and biases."""
        by_name = {tensor.name: tensor for tensor in tensors}
        return sum(self._unpacked(tensor, by_name) for tensor in by_name.values())

    def _unpacked(self, tensor: Tensor, by_name: Mapping[str, Tensor]) -> int:
        base, _, last = tensor.name.rpartition(".")
        packed = by_name.get(f"{base}.weight")
        if last in ("scales", "biases") and packed is not None and packed.kind in _PACKED:
            return 0
        if tensor.kind not in _PACKED:
            return tensor.elements
        plan = self.modules.get(base, {})
        scales = by_name.get(f"{base}.scales")
        group_size = plan.get("group_size") or self.group_size
        if last == "weight" and scales is not None and group_size is not None:
            return prod(scales.shape) * int(group_size)
        return tensor.nbytes * 8 // int(plan.get("bits") or self.bits or 4)


def read_quantization(model: str, directory: Path, config: dict[str, Any]) -> Quantization | None:
    """The packing described in ``config``, else in hf_quant_config.json, else None.

    The latter is put into ``config`` for mlx-lm. Raises ModelLoadFailed naming a malformed value.
    """
    file = directory / "hf_quant_config.json"  # of NVIDIA's exports
    text_config = config.get("text_config")
    sources = (config, text_config if isinstance(text_config, dict) else {})
    for source in sources:
        if source.get("quantization") is not None:
            return _own(model, source["quantization"])
    for source in sources:
        if source.get("quantization_config") is not None:
            return _foreign(model, source["quantization_config"])
    if not is_file(file, FILE_LIMIT_BYTES, model):
        return None
    config["quantization_config"] = read_json(file, FILE_LIMIT_BYTES, model)
    return _foreign(model, config["quantization_config"])


def _own(model: str, described: object) -> Quantization:
    """The packing as mlx-lm writes it: one plan for all, and names of modules with their own plan or none (false)."""
    if not isinstance(described, dict):
        raise ModelLoadFailed(model, f"config.json: quantization is no object: {shown(described)}")
    modules = {name: plan for name, plan in described.items() if isinstance(plan, dict)}
    for name, plan in [("quantization", described), *modules.items()]:
        _check(model, name, plan)
    return Quantization(
        described.get("bits"),
        described.get("group_size"),
        described.get("mode"),
        None,
        modules,
    )


def _foreign(model: str, described: object) -> Quantization:
    if not isinstance(described, dict):
        raise ModelLoadFailed(model, f"config.json: quantization_config is no object: {shown(described)}")
    method = described.get("quant_method")
    if not (method is None or (isinstance(method, str) and len(method) <= 64 and method.isprintable())):
        raise ModelLoadFailed(model, f"config.json: quant_method is no name: {shown(method)}")
    bits, group_size = described.get("bits"), described.get("group_size")
    if method in ("mxfp4", "mxfp8"):
        bits, group_size = bits or int(method[-1]), group_size or _MXFP_GROUP
    if method in ("awq", "gptq"):
        _check(model, "quantization_config", {"bits": bits, "group_size": group_size})
    elif not (bits in _BITS and group_size in _GROUPS):
        bits = group_size = None  # the method has other keys for them
    return Quantization(bits, group_size, None, method)


def _check(model: str, name: str, plan: Mapping[str, Any]) -> None:
    for key, allowed in (("bits", _BITS), ("group_size", _GROUPS)):
        value = plan.get(key)
        if value is not None and not (type(value) is int and value in allowed):
            raise ModelLoadFailed(model, f"config.json: {key} of {shown(name)} is {shown(value)}")
    if (mode := plan.get("mode")) is not None and mode not in _MODES:
        raise ModelLoadFailed(model, f"config.json: mode of {shown(name)} is {shown(mode)}, not one of {_MODES}")
