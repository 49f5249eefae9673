"""Reads an adapter's files on another thread: what they hold is checked against the model before memory is taken."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import xxhash

from mlx_sidecar_protocol.errors import AdapterLoadFailed, AdapterUnsupported, InternalError, OutOfMemory, RpcError

from ...checkpoint.adapter_directory import AdapterDirectory, inspect_low_rank
from ...checkpoint.file_numbers import shown
from ...checkpoint.headers import Tensor
from ...link.adapter_messages import AdapterCard
from ..core.adapter import LowRank, Projection

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

log = logging.getLogger(__name__)


class Content(NamedTuple):
    """The content of an adapter: its card, and its pairs by the path of the projection."""

    card: AdapterCard
    pairs: Mapping[str, LowRank]


class Read(NamedTuple):
    """The content of the adapter that was read, or why there is none."""

    result: Content | RpcError


class Wanted(NamedTuple):
    """An adapter to be read for a model with these ``projections``; it may have ``limit_bytes``."""

    model: str
    adapter: str
    path: str
    projections: Mapping[str, Projection]
    limit_bytes: int


def read(wanted: Wanted) -> Read:
    """Read the adapter that is ``wanted``; raises nothing."""
    adapter, path = wanted.adapter, wanted.path
    try:
        return Read(_read(wanted))
    except RpcError as error:
        return Read(error)
    except (OSError, MemoryError) as error:
        return Read(AdapterLoadFailed(adapter, f"its files cannot be read: {type(error).__name__}: {error}"))
    except Exception:
        log.exception("the adapter in %s cannot be read", path)
        return Read(InternalError())


def _read(wanted: Wanted) -> Content:
    adapter = wanted.adapter
    found = inspect_low_rank(adapter, wanted.path)
    for module in found.pairs:
        _check_module(adapter, module, found, wanted.projections)
    need_bytes = 4 * found.parameters  # float32
    if need_bytes > wanted.limit_bytes:
        raise OutOfMemory(need_bytes=need_bytes, have_bytes=wanted.limit_bytes)
    data = found.weights_file.read_bytes()
    digest = xxhash.xxh3_128(found.config_file.read_bytes())
    digest.update(data)
    pairs = {
        module: LowRank(
            _matrix(adapter, found, data, pair.a, transposed=found.format == "mlx-lm"),
            _matrix(adapter, found, data, pair.b, transposed=found.format == "mlx-lm", scale=found.scale),
        )
        for module, pair in found.pairs.items()
    }
    card = AdapterCard(
        model=wanted.model,
        adapter=adapter,
        path=wanted.path,
        format=found.format,
        rank=found.rank,
        scale=found.scale,
        targets=sorted({module.rpartition("layers.")[2].partition(".")[2] for module in pairs}),
        projections=len(pairs),
        parameters=found.parameters,
        memory_bytes=sum(each.nbytes for pair in pairs.values() for each in pair),
        digest=digest.hexdigest(),
    )
    return Content(card, pairs)


def _check_module(adapter: str, module: str, found: AdapterDirectory, projections: Mapping[str, Projection]) -> None:
    pair = found.pairs[module]
    projection = projections.get(module)
    if projection is None:
        raise AdapterLoadFailed(adapter, f"{shown(pair.a.name)}: the model has no {shown(module)}")
    if projection.because:
        because = f"{shown(pair.a.name)}: {projection.because}; load it as a model of its own (load with adapter)"
        raise AdapterUnsupported(adapter, because)
    wanted = {"a": (found.rank, projection.inputs), "b": (projection.outputs, found.rank)}
    for tensor, shape in ((pair.a, wanted["a"]), (pair.b, wanted["b"])):
        expected = shape[::-1] if found.format == "mlx-lm" else shape
        if tensor.shape != expected:
            said = f"{shown(tensor.name)} is {list(tensor.shape)}, where the model needs {list(expected)}"
            raise AdapterLoadFailed(adapter, said)


def _matrix(
    adapter: str, found: AdapterDirectory, data: bytes, tensor: Tensor, *, transposed: bool, scale: float = 1.0
) -> NDArray[np.float32]:
    """Return a tensor as float32, [rank, inputs] or [outputs, rank]; AdapterLoadFailed where one is not finite."""
    import numpy as np

    stored = data[found.data_begin + tensor.begin : found.data_begin + tensor.end]
    with np.errstate(over="ignore", invalid="ignore"):
        numbers = _floats(tensor.kind, stored).reshape(tensor.shape) * np.float32(scale)
    if not np.isfinite(numbers).all():
        raise AdapterLoadFailed(adapter, f"{shown(tensor.name)} holds numbers that are not finite")
    return np.ascontiguousarray(numbers.T if transposed else numbers)


def _floats(kind: str, stored: bytes) -> NDArray[np.float32]:
    import numpy as np

    if kind == "F32":
        return np.frombuffer(stored, np.float32)
    if kind == "F16":
        return np.frombuffer(stored, np.float16).astype(np.float32)
    return (np.frombuffer(stored, np.uint16).astype(np.uint32) << 16).view(np.float32)
