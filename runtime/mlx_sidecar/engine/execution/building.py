"""Limits the modules, memory and time that mlx-lm takes to build a model of a config. Its arrays are lazy meanwhile.

Bounding the numbers of a config by their names would follow mlx-lm's hundred architectures for ever. So their results
are bounded: modules by the tensors there are for them, memory and time by limits of the system.
"""

from __future__ import annotations

import resource
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NoReturn

import mlx.core as mx
import mlx.nn as nn

from mlx_sidecar_protocol.errors import ModelLoadFailed

from .interfaces import Model

# A module for each tensor, and some around them that have none; sanitising may make several tensors of one.
_MODULES_PER_TENSOR = 16
_MODULES = 1024
_CPU_S = 20.0  # a mixture of 60 layers and 400 experts, tensor by tensor, takes three
_MEMORY_BYTES = 2 << 30  # of Python's objects: names and lazy arrays
# Tables that a model computes for itself: frequencies, masks.
_TABLES_BYTES = 256 << 20


class TooMuch(Exception):
    """The config makes mlx-lm build more than its weights could fill."""


@contextmanager
def bounded(tensors: int) -> Iterator[None]:
    """Raise TooMuch within the block, where more is built than ``tensors`` justify.

    In another thread than the main one time is not limited, because signals come to the main thread.
    """
    try:
        with _modules(_MODULES + _MODULES_PER_TENSOR * tensors), _memory(), _time():
            yield
    except MemoryError:  # no want of memory: it is the config that wants too much
        raise TooMuch("what config.json describes does not fit into memory") from None


@contextmanager
def _modules(limit: int) -> Iterator[None]:
    made = 0
    initialise: Callable[[nn.Module], None] = nn.Module.__init__

    def counted(module: nn.Module) -> None:
        nonlocal made
        made += 1
        if made > limit:
            raise TooMuch(f"config.json describes more than {limit} modules, and there are no weights for them")
        initialise(module)

    nn.Module.__init__ = counted  # type: ignore[method-assign]
    try:
        yield
    finally:
        nn.Module.__init__ = initialise  # type: ignore[method-assign]


@contextmanager
def _memory() -> Iterator[None]:
    """Let an absurd list be a MemoryError, on systems that tell the memory of a process and can limit it."""
    try:
        used_bytes = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    except OSError:
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = used_bytes + _MEMORY_BYTES
    if soft == resource.RLIM_INFINITY or soft > limit:
        resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


@contextmanager
def _time() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGVTALRM, _over)
    signal.setitimer(signal.ITIMER_VIRTUAL, _CPU_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def _over(_number: int, _frame: FrameType | None) -> NoReturn:
    raise TooMuch(f"what config.json describes has not been built within {_CPU_S:g} s")


def check_tables(name: str, model: Model, stored_bytes: int) -> None:
    """Bound the arrays that ``model`` computes beside its weights, whose shapes the files have confirmed.

    Raises ModelLoadFailed. mlx does not survive an allocation that cannot be had.
    """
    limit = _TABLES_BYTES + stored_bytes
    tables = (array for module in model.modules() for array in _private_arrays(module))
    if (total := sum(array.nbytes for array in tables)) > limit:
        because = f"config.json describes tables of {total} bytes beside the weights, the limit is {limit}"
        raise ModelLoadFailed(name, because)


def _private_arrays(module: nn.Module) -> Iterator[mx.array]:
    """Yield the arrays that are no parameters of ``module``; its attributes are the items of a dict."""
    values = [value for key, value in [*module.items(), *vars(module).items()] if key.startswith("_")]
    return (value for value in values if isinstance(value, mx.array))
