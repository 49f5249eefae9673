"""Loads an encoder from its directory to the device, in bounded steps."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from functools import partial
from typing import Any, Final, NamedTuple

import mlx.core as mx

from mlx_sidecar_protocol.errors import ModelUnsupported, UnsupportedParameter

from ....checkpoint.model_directory import Directory
from ....link.control_messages import Dtype, Load
from ...core.loaded_model import LoadStep
from ..loader import evaluate, lazy_weights, read_steps
from .bert import Bert
from .encoder import Encoder
from .gemma import Gemma
from .modern_bert import ModernBert
from .tensors import Settings, Tensors

_CLASSIFIES = "ForSequenceClassification"

_Make = Callable[..., Encoder]
_ENCODERS: Final[dict[str, _Make]] = {
    "bert": partial(Bert, roberta=False),
    **dict.fromkeys(("roberta", "xlm-roberta", "camembert"), partial(Bert, roberta=True)),
    "modernbert": ModernBert,
}


def encoder_of(config: Mapping[str, Any]) -> _Make | None:
    """Return what makes the encoder that ``config`` describes, of its settings and tensors; None if it is a decoder."""
    kind = config["model_type"]
    if kind == "gemma3_text":
        return Gemma if config.get("use_bidirectional_attention") is True else None
    return _ENCODERS.get(kind)


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

    Raises ``ModelUnsupported`` for weights that are packed otherwise than by mlx and variants that are not computed,
    ``ModelLoadFailed`` for weights that do not fit its config, ``UnsupportedParameter`` for an adapter.
    """
    if load.adapter is not None:
        raise UnsupportedParameter("adapter", "adapters are for models that generate")
    packing, make = directory.quantization, encoder_of(directory.config)
    if packing is not None and packing.method is not None:
        raise ModelUnsupported(load.model, f"weights of an encoder that {packing.method} has packed are not read")
    assert make is not None
    yield from read_steps(directory, None)
    settings = Settings(load.model, directory.config, native=native)
    arrays = lazy_weights(load.model, directory)
    tensors = Tensors(load.model, arrays, dtype, quantised=packing is not None)
    classifies = _architecture(directory).endswith(_CLASSIFIES)
    encoder = make(settings, tensors, classifies=classifies)
    for done, total in evaluate(tensors.taken):
        yield LoadStep("building", done, total)
    return LoadedEncoder(
        encoder,
        tensors.parameters,
        next(str(each.dtype) for each in tensors.taken if mx.issubdtype(each.dtype, mx.floating)).removeprefix(
            "mlx.core."
        ),
        sum(array.nbytes for array in tensors.taken),
        classifies,
    )


def _architecture(directory: Directory) -> str:
    named = directory.config.get("architectures")
    return str(named[0]) if isinstance(named, list) and named else ""
