"""Loads tokenizers of model directories without ``tokenizer.json``, through transformers.

It imports transformers, which takes about 1 s, only when such a model is loaded. Code that comes with a model is run
only if the sidecar was started with ``--trust-remote-code``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mlx_sidecar_protocol.errors import ModelLoadFailed, ModelUnsupported

from ..checkpoint.file_checks import TOKENIZER_LIMIT_BYTES, is_file
from .files import ModelFiles
from .tokens import Encoder, FastTokens

# Any of these files makes a tokenizer for some class of transformers.
_SOURCES = ("*.model", "*.tiktoken", "vocab.json", "vocab.txt", "tekken.json")
# Suffixes of files that transformers may read, whose sizes are checked first.
_READ = frozenset({".jinja", ".json", ".model", ".py", ".tiktoken", ".txt"})


def load_slow(files: ModelFiles, *, trust_remote_code: bool = False) -> tuple[Encoder, dict[str, str]]:
    """The tokenizer of a model directory and its named special tokens (name → text).

    Raises ModelLoadFailed if the directory has no tokenizer or transformers cannot read it, ModelUnsupported if it
    needs code from the directory and may not run it.
    """
    own_code = _brings_code(files)
    if own_code and not trust_remote_code:
        because = "its tokenizer needs code from its own directory, which is run only under serve --trust-remote-code"
        raise ModelUnsupported(files.name, because=because)
    if not own_code and not any(next(files.path.glob(pattern), None) for pattern in _SOURCES):
        raise ModelLoadFailed(files.name, because="it has no tokenizer.json and no other tokenizer file")
    for file in files.path.iterdir():
        if file.suffix in _READ:
            is_file(file, TOKENIZER_LIMIT_BYTES, files.name)
    tokenizer = _from_transformers(files, own_code)
    special_tokens = {name: str(text) for name, text in tokenizer.special_tokens_map.items() if isinstance(text, str)}
    backend = getattr(tokenizer, "backend_tokenizer", None)
    return (SlowTokens(tokenizer) if backend is None else FastTokens(backend)), special_tokens


def _brings_code(files: ModelFiles) -> bool:
    mapped = files.tokenizer_config.get("auto_map")
    return isinstance(mapped, list) or (isinstance(mapped, dict) and "AutoTokenizer" in mapped)


def _from_transformers(files: ModelFiles, run_code: bool) -> Any:
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(files.path, trust_remote_code=run_code, local_files_only=True)
    # Tokenizer classes raise errors of any type for a file they cannot read; code of a model may raise SystemExit.
    except (Exception, SystemExit) as failed:
        raise ModelLoadFailed(files.name, because=f"transformers cannot read its tokenizer: {failed}") from failed


class SlowTokens:
    """A tokenizer written in Python. It has no family, because its decoding may do anything."""

    family = controls = None

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self.size = len(tokenizer)
        self.ids = range(self.size)
        self.special: frozenset[int] = frozenset(tokenizer.all_special_ids)

    def encode(self, text: str, add_special: bool) -> list[int]:
        return list(self._tokenizer.encode(text, add_special_tokens=add_special))

    def pair(self, first: str, second: str) -> None:
        """Make no pair, because each class of transformers makes them in its own way."""

    def decode(self, tokens: Sequence[int], skip_special: bool) -> str:
        known = [token for token in tokens if token < self.size]
        text = self._tokenizer.decode(known, skip_special_tokens=skip_special, clean_up_tokenization_spaces=False)
        return str(text)

    def token(self, token: int) -> str | None:
        return self._tokenizer.convert_ids_to_tokens(token) if token < self.size else None

    def token_id(self, text: str) -> int | None:
        token = self._tokenizer.convert_tokens_to_ids(text)
        return token if isinstance(token, int) else None
