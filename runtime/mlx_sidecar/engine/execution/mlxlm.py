"""The engine imports mlx-lm's names from this module only, so that importing them stays cheap.

``import mlx_lm`` costs 1.0 s, of which transformers and huggingface_hub take 0.9; they serve tokenizers, templates and
downloads. The engine sees token ids and directories and needs none of them. Two steps keep them out:

- ``mlx_lm`` is registered without running its ``__init__``, which imports everything it has (``bare_package``).
- While ``mlx_lm.utils`` is imported, modules for text and downloads are placeholders: any name can be imported from
  them, and raises as soon as it is used. Afterwards the placeholders are removed, so later imports get the real
  modules.

With both, and mlx itself imported before, this takes 0.04 s.

One function of mlx-lm is replaced, before any model's module binds its name: see ``AttendingKeys``.
"""

from __future__ import annotations

import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any, NoReturn

import mlx.core as mx

from ...bare_import import bare_package

_UNUSED = ("transformers", "huggingface_hub", "mlx_lm.tokenizer_utils")


class _Forbidden(type):
    """A class that may be named, in imports and annotations, but neither called nor looked into."""

    def __call__(cls, *args: Any, **kwargs: Any) -> NoReturn:
        raise ImportError(f"{cls.__module__}.{cls.__name__} is left out of the engine")

    def __getattr__(cls, name: str) -> NoReturn:
        if name.startswith("__"):
            raise AttributeError(name)
        raise ImportError(f"{cls.__module__}.{cls.__name__}.{name} is left out of the engine")


class _Placeholder(ModuleType):
    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Forbidden(name, (), {"__module__": self.__name__})


@contextmanager
def _placeholders() -> Iterator[None]:
    missing = [name for name in _UNUSED if name not in sys.modules]
    sys.modules.update({name: _Placeholder(name) for name in missing})
    try:
        yield
    finally:
        for name in missing:
            del sys.modules[name]


@contextmanager
def _open_files_limit_kept() -> Iterator[None]:
    # mlx_lm.utils lowers it to 4096 for the whole process, and a lowered hard limit cannot be raised again.
    setrlimit = resource.setrlimit
    resource.setrlimit = lambda *_: None
    try:
        yield
    finally:
        resource.setrlimit = setrlimit


class AttendingKeys:
    """A cache may return this for keys and values, so that it computes attention itself, not from arrays."""

    def attend(self, queries: mx.array, scale: float, mask: Any, sinks: mx.array | None) -> mx.array:
        raise NotImplementedError


bare_package("mlx_lm")
from mlx_lm.models import base  # noqa: E402

_attention_of_arrays = base.scaled_dot_product_attention


def _attention(
    queries: mx.array, keys: Any, values: Any, cache: Any, scale: float, mask: Any, sinks: mx.array | None = None
) -> Any:
    if isinstance(keys, AttendingKeys):
        return keys.attend(queries, scale, mask, sinks)
    return _attention_of_arrays(queries, keys, values, cache, scale, mask, sinks)


base.scaled_dot_product_attention = _attention
with _placeholders(), _open_files_limit_kept():
    from mlx_lm import utils
    from mlx_lm._version import __version__ as VERSION  # noqa: N812
    from mlx_lm.models.cache import (
        ArraysCache,
        ChunkedKVCache,
        KVCache,
        QuantizedKVCache,
        RotatingKVCache,
        make_prompt_cache,
    )
    from mlx_lm.utils import _get_classes as get_classes
    from mlx_lm.utils import get_total_parameters, load_model


class _Given:
    """A stand-in for mlx and for glob in ``load_model``: there is one file, and it holds the given weights."""

    def __init__(self, weights: dict[str, mx.array]) -> None:
        self._weights = weights
        self.taken = False

    def glob(self, _: str) -> list[str]:
        return ["weights"]

    def load(self, _: str) -> dict[str, mx.array]:
        self.taken = True
        return self._weights

    def __getattr__(self, name: str) -> Any:
        return getattr(mx, name)


def build_model(path: Path, config: dict[str, Any], weights: dict[str, mx.array], *, trust_remote_code: bool) -> Any:
    """Return the model that ``config`` describes, with ``weights``, which stay lazy. Raises any error of mlx-lm's.

    It is mlx-lm's own function with other globals. By itself it opens each file whose name fits a pattern, which a
    directory called ``[x]`` breaks, and the order of a listing decides which of two tensors of one name counts.
    """
    nested = config.get("text_config")
    nested = nested if isinstance(nested, dict) else {}
    # With the key there it looks for no file of it.
    config = {"quantization_config": nested.get("quantization_config"), **utils._decode_tagged_floats(config)}
    given = _Given(weights)
    names = {**vars(utils), "mx": given, "glob": given, "load_config": lambda _: config}
    load = FunctionType(utils.load_model.__code__, names, argdefs=utils.load_model.__defaults__)
    model, _ = load(path, lazy=True, trust_remote_code=trust_remote_code)
    if not given.taken:
        raise RuntimeError(f"mlx-lm {VERSION} reads weights in another way")
    return model


def module_name(model_type: str) -> str:
    """Return the name of mlx-lm's module for models of ``model_type``."""
    return str(utils.MODEL_REMAPPING.get(model_type, model_type))


def packed_classes() -> dict[type, type]:
    """Return the layers that can be unpacked, with their plain counterparts."""
    import mlx.nn as nn
    from mlx_lm.models.mla import MultiLinear, QuantizedMultiLinear
    from mlx_lm.models.switch_layers import QuantizedSwitchLinear, SwitchLinear

    return {
        nn.QuantizedLinear: nn.Linear,
        nn.QQLinear: nn.Linear,  # its activations are then not rounded either
        nn.QuantizedEmbedding: nn.Embedding,
        QuantizedSwitchLinear: SwitchLinear,
        QuantizedMultiLinear: MultiLinear,
    }


def load_adapters(model: Any, path: str) -> Any:
    """Put the LoRA or DoRA layers, or the whole weights, of directory ``path`` into ``model``, and return it.

    Raises FileNotFoundError, and ValueError or KeyError where they do not fit.
    """
    bare_package("mlx_lm.tuner")  # its __init__ brings the trainer
    with _placeholders():
        from mlx_lm.tuner.utils import load_adapters as load
    return load(model, path)


__all__ = [
    "VERSION",
    "ArraysCache",
    "AttendingKeys",
    "ChunkedKVCache",
    "KVCache",
    "QuantizedKVCache",
    "RotatingKVCache",
    "build_model",
    "get_classes",
    "get_total_parameters",
    "load_adapters",
    "load_model",
    "make_prompt_cache",
    "module_name",
    "packed_classes",
]
