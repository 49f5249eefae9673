"""Reads how a checkpoint embeds texts, from the files that sentence-transformers writes beside the weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from mlx_sidecar_protocol.errors import ModelLoadFailed

from .dense import DenseFile, read_dense
from .file_checks import FILE_LIMIT_BYTES, is_file, read_json, read_json_list
from .file_numbers import CONTEXT_LENGTH_LIMIT, is_count, shown
from .index import is_plain

Pooling = Literal["mean", "cls", "last", "max"]

_MODULES = "modules.json"
_MODULES_LIMIT = 16
_PROMPTS = "config_sentence_transformers.json"
# Their names go into answers. Models with a prompt for each task of a benchmark have two hundred.
_PROMPTS_LIMIT, _NAME_LIMIT, _PROMPT_LIMIT = 1024, 256, 4096
_KINDS = ("Transformer", "Pooling", "Dense", "Normalize")  # in the order in which they are computed
# The flags of 1_Pooling/config.json.
_FLAGS: dict[str, Pooling] = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
    "pooling_mode_lasttoken": "last",
    "pooling_mode_max_tokens": "max",
}
_NAMES: dict[str, Pooling] = {"mean": "mean", "cls": "cls", "lasttoken": "last", "max": "max"}


@dataclass(frozen=True)
class EmbeddingFiles:
    """The content of the files. ``pooling``: None where they name none; ``max_tokens``: None where no limit is named.

    ``modules``: there is a list of modules, and so a vector has length 1 if and only if it names ``normalize``.
    ``dense``: the modules that a pooled vector passes, in order, before it is given its length.
    ``prompts``: by name, texts that stand before others.
    ``objection``: why no vector can be made as they say; "" where it can.
    """

    modules: bool = False
    pooling: Pooling | None = None
    normalize: bool = True
    max_tokens: int | None = None
    dense: tuple[DenseFile, ...] = ()
    objection: str = ""
    prompts: Mapping[str, str] = field(default_factory=dict)


def read_embedding(model: str, directory: Path, inner: tuple[DenseFile, ...] = ()) -> EmbeddingFiles:
    """Read the files of ``directory`` that tell of embeddings; each may be missing.

    ``inner``: the Dense modules that stand among the weights, for those whose folders are missing. Raises
    ModelLoadFailed for files that are damaged or too large.
    """
    modules = _modules(model, directory)
    kinds = [kind for kind, _ in modules]
    folder = next((path for kind, path in modules if kind == "Pooling"), "1_Pooling")
    pooling, objection = _pooling(model, directory / folder / "config.json")
    unknown = [kind for kind in kinds if kind not in _KINDS]
    dense: list[DenseFile] = []
    if unknown:
        objection = f"{_MODULES} names a {unknown[0]} behind the model, which is not computed here"
    elif "Dense" in kinds and sorted(kinds, key=_KINDS.index) != kinds:
        objection = f"{_MODULES} names a Dense elsewhere than between pooling and length, which is not computed here"
    elif not objection:
        folders = [path for kind, path in modules if kind == "Dense"]
        missing = not any((directory / path).is_dir() for path in folders)
        if inner and missing and (not modules or len(folders) == len(inner)):
            # Their converter leaves the folders out, that of the pooling too, and pools by the mean.
            dense, pooling = list(inner), pooling or "mean"
        else:
            dense, objection = _dense(model, directory, folders)
    return EmbeddingFiles(
        modules=bool(modules),
        pooling=pooling,
        normalize=not modules or "Normalize" in kinds,
        max_tokens=_max_tokens(model, directory),
        dense=tuple(dense),
        objection=objection,
        prompts=_prompts(model, directory),
    )


def _modules(model: str, directory: Path) -> list[tuple[str, str]]:
    """The kind and the folder of each module, in order."""
    file = directory / _MODULES
    if not is_file(file, FILE_LIMIT_BYTES, model):
        return []
    found: list[tuple[str, str]] = []
    for each in read_json_list(file, FILE_LIMIT_BYTES, model)[:_MODULES_LIMIT]:
        kind, path = (each.get("type"), each.get("path")) if isinstance(each, dict) else (None, None)
        if not isinstance(kind, str) or not (path == "" or is_plain(path)):
            raise ModelLoadFailed(model, f"{_MODULES}: {shown(each)} is no module")
        found.append((kind.rpartition(".")[2], str(path)))
    return found


def _dense(model: str, directory: Path, folders: list[str]) -> tuple[list[DenseFile], str]:
    """The modules in ``folders``, each of which takes what the one before gives; and why one cannot be computed."""
    found: list[DenseFile] = []
    for folder in folders:
        read = read_dense(model, directory / folder)
        if isinstance(read, str):
            return [], read
        if found and read.inputs != found[-1].outputs:
            because = f"{folder} takes {read.inputs} numbers, and the module before it gives {found[-1].outputs}"
            raise ModelLoadFailed(model, because)
        found.append(read)
    return found, ""


def _pooling(model: str, file: Path) -> tuple[Pooling | None, str]:
    """The pooling that ``file`` says; None if there is no file; and why it cannot be computed."""
    if not is_file(file, FILE_LIMIT_BYTES, model):
        return None, ""
    config, name = read_json(file, FILE_LIMIT_BYTES, model), f"{file.parent.name}/config.json"
    if config.get("include_prompt") is False:
        return None, f"{name} leaves instructions out of the pooling, which is not computed here"
    named = _named(config)
    if len(named) != 1 or (known := named[0]) not in _NAMES.values():
        how = " and ".join(sorted(named)) or "none"
        return None, f"{name} asks for a pooling that is not computed here: {shown(how)}"
    return known, ""


def _named(config: Mapping[str, Any]) -> list[Any]:
    if isinstance(mode := config.get("pooling_mode"), str):
        return [_NAMES.get(mode, mode)]
    flags = [flag for flag, on in config.items() if flag.startswith("pooling_mode_") and on is True]
    return [_FLAGS.get(flag, flag) for flag in flags]


def _prompts(model: str, directory: Path) -> dict[str, str]:
    file = directory / _PROMPTS
    if not is_file(file, FILE_LIMIT_BYTES, model):
        return {}
    found = read_json(file, FILE_LIMIT_BYTES, model).get("prompts")
    found = {} if found is None else found
    if not isinstance(found, dict) or len(found) > _PROMPTS_LIMIT:
        raise ModelLoadFailed(
            model, f"{_PROMPTS}: prompts is {shown(found)}, not an object of {_PROMPTS_LIMIT} at most"
        )
    for name, prompt in found.items():
        if not (name and _is_text(name, _NAME_LIMIT) and _is_text(prompt, _PROMPT_LIMIT)):
            raise ModelLoadFailed(model, f"{_PROMPTS}: the prompt {shown(name)} is {shown(prompt)}")
    return found


def _is_text(value: object, limit: int) -> bool:
    """Whether it has ``limit`` characters at most, and no halves of pairs, which cannot be sent."""
    return isinstance(value, str) and len(value) <= limit and not any("\ud800" <= each <= "\udfff" for each in value)


def _max_tokens(model: str, directory: Path) -> int | None:
    file = directory / "sentence_bert_config.json"
    if not is_file(file, FILE_LIMIT_BYTES, model):
        return None
    limit = read_json(file, FILE_LIMIT_BYTES, model).get("max_seq_length")
    return limit if is_count(limit, CONTEXT_LENGTH_LIMIT) and limit else None
