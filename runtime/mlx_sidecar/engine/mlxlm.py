"""The one door to mlx-lm: names are imported from here, so that importing them stays cheap.

``import mlx_lm`` costs 1.0 s, of which transformers and huggingface_hub take 0.9; they serve tokenizers, templates and
downloads. The engine sees token ids and directories and needs none of them. Two steps keep them out:

- ``mlx_lm`` is registered without running its ``__init__``, which imports everything it has (``lean.bare_package``).
- While ``mlx_lm.utils`` is imported, what deals with text and downloads is a placeholder: any name can be imported
  from it, and raises as soon as it is used. Afterwards the placeholders are removed, so whatever needs the real modules
  later imports the real ones.

With both, and mlx itself imported before, this takes 0.04 s.

One function of mlx-lm is replaced, before any model's module binds its name: see ``AttendingKeys``.
"""

from __future__ import annotations

import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any, NoReturn

import mlx.core as mx

from ..lean import bare_package

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
    """What a cache may return for keys and values so that attention is computed by it, not from arrays."""

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
    from mlx_lm._version import __version__ as VERSION  # noqa: N812
    from mlx_lm.models.cache import ArraysCache, KVCache, QuantizedKVCache, RotatingKVCache, make_prompt_cache
    from mlx_lm.utils import _get_classes as get_classes
    from mlx_lm.utils import dequantize_model, get_total_parameters, load_model


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
    "KVCache",
    "QuantizedKVCache",
    "RotatingKVCache",
    "dequantize_model",
    "get_classes",
    "get_total_parameters",
    "load_adapters",
    "load_model",
    "make_prompt_cache",
]
