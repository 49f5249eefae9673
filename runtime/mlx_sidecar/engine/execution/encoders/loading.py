"""Loads an encoder from its directory to the device, in bounded steps."""

from __future__ import annotations

from collections.abc import Callable, Generator
from functools import partial
from typing import Final, NamedTuple

from mlx_sidecar_protocol.errors import ModelUnsupported, UnsupportedParameter

from ....checkpoint.model_directory import Directory
from ....link.control_messages import Dtype, Load
from ...core.loaded_model import LoadStep
from ..loader import evaluate, lazy_weights, read_steps
from .bert import Bert
from .encoder import Encoder
from .modern_bert import ModernBert
from .tensors import Settings, Tensors

_CLASSIFIES = "ForSequenceClassification"

_Make = Callable[..., Encoder]
ENCODERS: Final[dict[str, _Make]] = {
    "bert": partial(Bert, roberta=False),
    **dict.fromkeys(("roberta", "xlm-roberta", "camembert"), partial(Bert, roberta=True)),
    "modernbert": ModernBert,
}
"""By the ``model_type`` of config.json."""


class LoadedEncoder(NamedTuple):
    """An encoder whose weights are in memory. ``classifies``: its checkpoint has a classifier."""

    encoder: Encoder
    parameters: int
    dtype: str
    memory_bytes: int
    classifies: bool


def load_encoder_steps(
    load: Load, directory: Directory, dtype: Dtype | None, *, native: bool
) -> Generator[LoadStep, None, LoadedEncoder]:
    """Load ``directory``, to compute in ``dtype``; None: as stored. ``native`` code may compute, too.

    Raises ``ModelUnsupported`` for quantised weights and variants that are not computed, ``ModelLoadFailed`` for
    weights that do not fit its config, ``UnsupportedParameter`` for an adapter.
    """
    if load.adapter is not None:
        raise UnsupportedParameter("adapter", "adapters are for models that generate")
    if directory.quantization is not None:
        raise ModelUnsupported(load.model, "quantised weights of an encoder are not read")
    yield from read_steps(directory, None)
    settings = Settings(load.model, directory.config, native=native)
    tensors = Tensors(load.model, lazy_weights(load.model, directory), dtype)
    classifies = _architecture(directory).endswith(_CLASSIFIES)
    encoder = ENCODERS[str(directory.config["model_type"])](settings, tensors, classifies=classifies)
    for done, total in evaluate(tensors.taken):
        yield LoadStep("building", done, total)
    return LoadedEncoder(
        encoder,
        sum(array.size for array in tensors.taken),
        str(tensors.taken[0].dtype).removeprefix("mlx.core."),
        sum(array.nbytes for array in tensors.taken),
        classifies,
    )


def _architecture(directory: Directory) -> str:
    named = directory.config.get("architectures")
    return str(named[0]) if isinstance(named, list) and named else ""
