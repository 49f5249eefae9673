"""Reads the small JSON files and the chat templates of a model directory, with the standard library alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from mlx_sidecar_protocol.errors import ModelLoadFailed

from ..checkpoint.file_checks import FILE_LIMIT_BYTES, is_file
from ..checkpoint.file_numbers import TOKEN_LIMIT, context_length, context_lengths, is_count, token_ids

# Models have one chat template or a handful, of some kilobytes each.
TEMPLATES_LIMIT = 64
TEMPLATES_LIMIT_BYTES = 16 * 2**20


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """Contents of the JSON files and templates of a model directory; an absent file is empty."""

    name: str
    path: Path
    config: Mapping[str, Any] = field(default_factory=dict)
    generation_config: Mapping[str, Any] = field(default_factory=dict)
    tokenizer_config: Mapping[str, Any] = field(default_factory=dict)
    special_tokens_map: Mapping[str, Any] = field(default_factory=dict)
    added_tokens: Mapping[str, int] = field(default_factory=dict)
    templates: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path, name: str) -> ModelFiles:
        """Read the directory ``path``; ``name`` is the model's name in errors.

        Raises ModelLoadFailed naming a file that is not JSON, not an object, not text, too large or not a file.
        """
        if not path.is_dir():
            raise ModelLoadFailed(name, because="its directory does not exist")
        read = {file.stem: _object(file, name) for file in (path / each for each in _FILES)}
        return cls(name=name, path=path, templates=_templates(path, name, read["tokenizer_config"]), **read)

    def config_value(self, *keys: str) -> Any:
        """The value of the first of ``keys`` in config.json or its ``text_config``; None if there is none."""
        nested = self.config.get("text_config")
        for source in (self.config, nested if isinstance(nested, Mapping) else {}):
            for key in keys:
                if source.get(key) is not None:
                    return source[key]
        return None

    @property
    def context_length(self) -> int | None:
        """The context length in tokens; None where no file says."""
        return context_length(*context_lengths(self.config), self.tokenizer_config.get("model_max_length"))

    @property
    def eos_tokens(self) -> frozenset[int]:
        """Token ids that end a turn, from generation_config.json, else from config.json.

        Raises ModelLoadFailed naming the file whose value is no token id.
        """
        named, where = self.generation_config.get("eos_token_id"), "generation_config.json"
        if named is None:
            named, where = self.config_value("eos_token_id"), "config.json"
        return token_ids(named, f"{where}: eos_token_id", self.name)

    @property
    def vocabulary_size(self) -> int | None:
        """The number of token ids in config.json; None where it has none, or none that is a size."""
        size = self.config_value("vocab_size")
        return size if is_count(size, TOKEN_LIMIT) and size else None


_FILES = (
    "config.json",
    "generation_config.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
)


def _object(file: Path, name: str) -> dict[str, Any]:
    if not is_file(file, FILE_LIMIT_BYTES, name):
        return {}
    try:
        value = json.loads(_text(file, name))
    except (ValueError, RecursionError) as broken:
        raise ModelLoadFailed(name, because=f"{file.name} is not valid JSON: {broken}") from broken
    if not isinstance(value, dict):
        raise ModelLoadFailed(name, because=f"{file.name} holds no JSON object")
    return value


def _text(file: Path, name: str) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError as broken:
        raise ModelLoadFailed(name, because=f"{file.name} is not UTF-8: {broken}") from broken
    except OSError as failed:
        raise ModelLoadFailed(name, because=f"{file.name} cannot be read: {failed.strerror}") from failed


def _templates(path: Path, name: str, tokenizer_config: Mapping[str, Any]) -> Mapping[str, str]:
    """Templates by name: of template files, else of tokenizer_config.json, else of chat_template.json."""
    if files := _template_files(path, name):
        return {stem: _text(file, name) for stem, file in files.items()}
    in_config = tokenizer_config.get("chat_template")
    if in_config is None:
        in_config = _object(path / "chat_template.json", name).get("chat_template")
    return _named(in_config, name)


def _template_files(path: Path, name: str) -> dict[str, Path]:
    """Template files by the name of their template, after a check of their number and sizes."""
    found = islice(path.glob("additional_chat_templates/*.jinja"), TEMPLATES_LIMIT + 1)
    files = {file.stem: file for file in sorted(found) if is_file(file, FILE_LIMIT_BYTES, name)}
    if is_file(default := path / "chat_template.jinja", FILE_LIMIT_BYTES, name):
        files["default"] = default
    if len(files) > TEMPLATES_LIMIT:
        raise ModelLoadFailed(name, because=f"it has more than {TEMPLATES_LIMIT} chat templates")
    if (size := sum(file.stat().st_size for file in files.values())) > TEMPLATES_LIMIT_BYTES:
        because = f"its chat templates have {size} bytes, the limit is {TEMPLATES_LIMIT_BYTES}"
        raise ModelLoadFailed(name, because=because)
    return files


def _named(templates: Any, name: str) -> Mapping[str, str]:
    """Templates by name, from one template, a list of {name, template}, or a mapping."""
    if templates is None:
        return {}
    if isinstance(templates, str):
        return {"default": templates}
    if isinstance(templates, list) and all(isinstance(each, dict) for each in templates):
        templates = {each.get("name"): each.get("template") for each in templates}
    if isinstance(templates, dict | list) and len(templates) > TEMPLATES_LIMIT:
        raise ModelLoadFailed(name, because=f"it has more than {TEMPLATES_LIMIT} chat templates")
    if isinstance(templates, dict) and all(isinstance(text, str) for pair in templates.items() for text in pair):
        return templates
    raise ModelLoadFailed(name, because="chat_template is neither a string nor a list of {name, template}")
