"""Loads a model from its directory to the device, in bounded steps."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

import mlx.core as mx
import xxhash
from mlx.utils import tree_flatten, tree_map

from mlx_sidecar_protocol.errors import ModelLoadFailed, ModelNotFound, ModelUnsupported, RpcError

from ...checkpoint.file_numbers import in_short
from ...checkpoint.index import INDEX
from ...checkpoint.model_directory import Directory, inspect_adapter, warm_up
from ...link.control_messages import Dtype, Load
from ..resident_models import LoadStep
from . import mlxlm
from .building import TooMuch, bounded, check_tables
from .interfaces import Model
from .unpacking import unpack

# The time for which one step of a load may keep the step loop from decoding.
READ_BYTES = 8 << 20
EVAL_BYTES = 64 << 20
_MADE_UP = 1 << 20  # numbers of an adapter that are not in its file: magnitudes, say


class Weights(NamedTuple):
    """A model whose weights are all in memory. ``fingerprint`` is of all files read: config, weights, adapter, code."""

    model: Model
    architecture: str
    parameters: int
    dtype: str
    memory_bytes: int
    fingerprint: str


def load_steps(
    load: Load, directory: Directory, dtype: Dtype | None, *, trust_remote_code: bool = False
) -> Generator[LoadStep, None, Weights]:
    """Load ``directory``, to compute in ``dtype``; None: as stored.

    ``trust_remote_code``: run the ``model_file`` that its config names.

    Raises ``ModelUnsupported`` for an architecture that mlx-lm does not know, ``ModelLoadFailed`` for weights that do
    not fit it, ``ModelNotFound`` for an adapter that is not there.
    """
    architecture = str(directory.config["model_type"])
    if not (trust_remote_code and directory.config.get("model_file") is not None):
        _check_architecture(load.model, directory.config)
    adapter_elements = 0 if load.adapter is None else inspect_adapter(load.model, load.adapter)
    fingerprint = yield from read_steps(directory, load.adapter)
    model = _build(load, directory, trust_remote_code)
    if load.adapter is not None:
        model = _adapted(load.model, load.adapter, model, adapter_elements)
    weights = Weights(model, architecture, mlxlm.get_total_parameters(model), "", 0, fingerprint)
    return (yield from (evaluate_steps(weights, "building") if dtype is None else convert_steps(weights, dtype)))


def convert_steps(weights: Weights, dtype: Dtype) -> Generator[LoadStep, None, Weights]:
    """Unpack and cast the weights of a model that ``load_steps`` loaded as stored, and evaluate them."""
    _convert(weights.model, dtype)
    return (yield from evaluate_steps(weights, "converting"))


def evaluate_steps(weights: Weights, stage: Stage) -> Generator[LoadStep, None, Weights]:
    """Bring the weights into memory; return them with their type and size."""
    arrays = _arrays(weights.model)
    for done, total in evaluate(arrays):
        yield LoadStep(stage, done, total)
    computed = next((str(a.dtype) for a in arrays if mx.issubdtype(a.dtype, mx.floating)), "")
    return weights._replace(
        dtype=computed.removeprefix("mlx.core."), memory_bytes=sum(array.nbytes for array in arrays)
    )


Stage = Literal["building", "converting"]


def read_steps(directory: Directory, adapter: str | None) -> Generator[LoadStep, None, str]:
    """Bring ``directory`` into the page cache; return one name for its contents."""
    read = xxhash.xxh3_128()
    done, total = 0, directory.stored_bytes
    for count in warm_up(directory.files, READ_BYTES, read.update):
        done += count
        yield LoadStep("reading", done, total)
    for file in _small_files(directory, adapter):
        read.update(file.read_bytes())
    return read.hexdigest()


def _small_files(directory: Directory, adapter: str | None) -> Iterator[Path]:
    """Yield the files on which a model's numbers depend besides its weights."""
    yield directory.path / "config.json"
    # Of two tensors of one name the index says which counts.
    yield from filter(Path.is_file, (directory.path / name for name in (INDEX, "hf_quant_config.json")))
    if (code := directory.config.get("model_file")) is not None:
        yield directory.path / code
    if adapter is not None:
        yield from (Path(adapter) / name for name in ("adapter_config.json", "adapters.safetensors"))


def _arrays(model: Model) -> list[mx.array]:
    return [array for _, array in cast("list[tuple[str, mx.array]]", tree_flatten(model.parameters()))]


def _check_architecture(model: str, config: dict[str, Any]) -> None:
    try:
        mlxlm.get_classes(config)
    except (ValueError, TypeError, AttributeError) as error:  # a module beside the models, or names of other types
        raise ModelUnsupported(model, str(error)) from error
    except SystemExit as error:  # what mlx_lm.models.olmo does where its package is not installed
        because = f"{config['model_type']!r} needs a Python package that is not installed"
        raise ModelUnsupported(model, because) from error


def _build(load: Load, directory: Directory, trust_remote_code: bool) -> Model:
    """Return the model with lazy weights: nothing is read yet."""
    try:
        weights, config = _headed(lazy_weights(load.model, directory), directory.config)
        with bounded(len(weights)):
            model: Model = mlxlm.build_model(directory.path, config, weights, trust_remote_code=trust_remote_code)
    except RpcError:
        raise
    except TooMuch as error:
        raise ModelLoadFailed(load.model, str(error)) from error
    # mlx-lm raises these for weights that do not fit, and a model's own code may.
    except (Exception, SystemExit) as error:
        raise ModelLoadFailed(load.model, in_short(error)) from error
    check_tables(load.model, model, directory.stored_bytes)
    return model


def _headed(weights: dict[str, mx.array], config: dict[str, Any]) -> tuple[dict[str, mx.array], dict[str, Any]]:
    """Name the weights of a decoder that was saved without its head, to embed texts, as those of one with a head.

    Its embedding stands for the head, which is not made use of.
    """
    if "embed_tokens.weight" not in weights:
        return weights, config
    return {f"model.{name}": array for name, array in weights.items()}, {**config, "tie_word_embeddings": True}


def _adapted(name: str, adapter: str, model: Model, elements: int) -> Model:
    """Return ``model`` with ``adapter``, whose files hold ``elements`` numbers."""
    before = sum(array.size for array in _arrays(model))
    try:
        with bounded(len(_arrays(model))):
            model = mlxlm.load_adapters(model, adapter)
    except FileNotFoundError as error:
        raise ModelNotFound(adapter, "there is no such adapter") from error
    except (ValueError, KeyError, TypeError, AttributeError, RuntimeError, TooMuch) as error:
        raise ModelLoadFailed(name, f"adapter {adapter}: {in_short(error)}") from error
    # Layers that its config names and its weights do not hold would be made up, as large as the rank says.
    if sum(array.size for array in _arrays(model)) - before > elements + _MADE_UP:
        raise ModelLoadFailed(name, f"adapter {adapter}: its config describes more than its weights hold")
    return model


def lazy_weights(model: str, directory: Directory) -> dict[str, mx.array]:
    """Return the tensors of each file, by its header and the index. Raises ModelLoadFailed if a file has changed."""
    found: dict[str, mx.array] = {}
    for file in directory.weights:
        arrays = cast("dict[str, mx.array]", mx.load(str(file.path)))
        for tensor in file.tensors:
            array = arrays.get(tensor.name)
            if array is None or array.shape != tensor.shape:
                raise ModelLoadFailed(model, f"{file.path.name} has changed while it was read")
            found[tensor.name] = array
    return found


def _convert(model: Model, dtype: Dtype) -> None:
    """Unpack quantised weights and cast floating-point ones; lazily."""
    unpack(model)
    to = getattr(mx, dtype)
    model.update(tree_map(lambda a: a.astype(to) if mx.issubdtype(a.dtype, mx.floating) else a, model.parameters()))


def evaluate(arrays: list[mx.array]) -> Iterator[tuple[int, int]]:
    """Compute ``arrays`` some at a time; yield the bytes so far and of how many."""
    total = sum(array.nbytes for array in arrays)
    done = size = 0
    group: list[mx.array] = []
    for array in arrays:
        group.append(array)
        size += array.nbytes
        if size >= EVAL_BYTES:
            mx.eval(group)
            done += size
            yield done, total
            group, size = [], 0
    mx.eval(group)
    yield total, total
