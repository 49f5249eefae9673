"""Reads the Dense modules that stand behind the pooling of a checkpoint: a linear layer and an activation each."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any, Final

from mlx_sidecar_protocol.errors import ModelLoadFailed

from .file_checks import FILE_LIMIT_BYTES, is_file, read_json
from .file_numbers import is_count, shown
from .headers import Tensor, read_header
from .model_directory import Directory

_WEIGHTS = "model.safetensors"
_WEIGHT, _BIAS = "linear.weight", "linear.bias"
_FLOATS = ("F32", "F16", "BF16")
_LIMIT = 1 << 31
_INNER_LIMIT = 16
_VECTOR = "sentence_embedding"  # what a module takes and gives, unless its config says otherwise
# By the last part of the class that the config names; those before it are the package's.
_ACTIVATIONS: Final = {
    "Identity": "identity",
    "Tanh": "tanh",
    "ReLU": "relu",
    "GELU": "gelu",
    "SiLU": "silu",
    "Sigmoid": "sigmoid",
}


@dataclass(frozen=True)
class DenseFile:
    """A Dense module whose config and header passed the checks: ``inputs`` numbers become ``outputs``.

    ``file`` holds its ``weight`` [outputs, inputs], and its ``bias`` [outputs] if it ``has_bias``, under ``name``.
    """

    file: Path
    inputs: int
    outputs: int
    has_bias: bool
    activation: str
    name: str = "linear"

    @property
    def parameters(self) -> int:
        return self.outputs * (self.inputs + self.has_bias)


def inner_dense(directory: Directory) -> tuple[DenseFile, ...]:
    """Return the Dense modules that stand among the weights of an EmbeddingGemma, as mlx-embeddings puts them.

    They have neither bias nor activation. The first takes a hidden state, each other what the one before gives; whether
    its weight has that shape is seen when it is loaded, because it may be packed.
    """
    inputs = directory.config.get("hidden_size")
    if directory.config.get("use_bidirectional_attention") is not True or not is_count(inputs, _LIMIT):
        return ()
    stored = {tensor.name: (file.path, tensor.shape) for file in directory.weights for tensor in file.tensors}
    found: list[DenseFile] = []
    for number in range(_INNER_LIMIT):
        file, shape = stored.get(f"dense.{number}.weight", (None, ()))
        if file is None or not shape:
            break
        found.append(DenseFile(file, inputs, shape[0], False, "identity", f"dense.{number}"))
        inputs = shape[0]
    return tuple(found)


def read_dense(model: str, folder: Path) -> DenseFile | str:
    """Read the module in ``folder``; return why it is not computed where it is another than is known.

    Raises ModelLoadFailed for files that are damaged or missing.
    """
    name = f"{folder.name}/config.json"
    config = read_json(folder / "config.json", FILE_LIMIT_BYTES, model)
    inputs, outputs, has_bias = config.get("in_features"), config.get("out_features"), config.get("bias", True)
    if not (is_count(inputs, _LIMIT) and inputs and is_count(outputs, _LIMIT) and outputs):
        raise ModelLoadFailed(model, f"{name}: in_features and out_features are {shown([inputs, outputs])}")
    if not isinstance(has_bias, bool):
        raise ModelLoadFailed(model, f"{name}: bias is {shown(has_bias)}")
    if because := _objection(config):
        return f"{name} {because}, which is not computed here"
    if not is_file(folder / _WEIGHTS, inf, model):
        return f"{folder.name} has no {_WEIGHTS}, and other formats are not read"
    _check(model, folder, {_WEIGHT: (outputs, inputs)} | ({_BIAS: (outputs,)} if has_bias else {}))
    activation = _ACTIVATIONS[_last(config.get("activation_function"))]
    return DenseFile(folder / _WEIGHTS, inputs, outputs, has_bias, activation)


def _objection(config: dict[str, Any]) -> str:
    activation = config.get("activation_function")
    if _last(activation) not in _ACTIVATIONS:
        return f"names the activation {shown(activation)}"
    for key in ("module_input_name", "module_output_name"):
        if config.get(key) not in (None, _VECTOR):
            return f"has {shown(config[key])} as its {key}"
    return ""


def _last(path: object) -> str:
    return path.rpartition(".")[2] if isinstance(path, str) else ""


def _check(model: str, folder: Path, shapes: dict[str, tuple[int, ...]]) -> None:
    """Raise ModelLoadFailed unless the weights in ``folder`` are floats of these ``shapes``, and no others."""
    tensors, _ = read_header(model, folder / _WEIGHTS)
    found = {tensor.name: tensor for tensor in tensors}
    for name, shape in shapes.items():
        if name not in found:
            raise ModelLoadFailed(model, f"{folder.name}/{_WEIGHTS} has no {name}")
        if not _is_float(found[name], shape):
            told = f"{found[name].kind} {list(found[name].shape)}, not {list(shape)}"
            raise ModelLoadFailed(model, f"{folder.name}/{_WEIGHTS}: {name} is {told}")
    if unknown := sorted(found.keys() - shapes.keys()):
        raise ModelLoadFailed(
            model, f"{folder.name}/{_WEIGHTS} has {shown(unknown[0])}, which its config does not name"
        )


def _is_float(tensor: Tensor, shape: tuple[int, ...]) -> bool:
    return tensor.kind in _FLOATS and tensor.shape == shape
