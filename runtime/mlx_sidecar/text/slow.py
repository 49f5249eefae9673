"""Tokenizers of model directories without ``tokenizer.json``: the long way, through transformers.

Imports transformers, which takes about a second, and only when such a model is loaded. Code that comes with a model is
never run.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mlx_sidecar.text.files import ModelFiles
from mlx_sidecar.text.tokens import FastTokens, Tokens
from mlx_sidecar_protocol.errors import ModelLoadFailed, ModelUnsupported

# Any of these makes a tokenizer, given the code that knows it.
_SOURCES = ("*.model", "*.tiktoken", "vocab.json", "vocab.txt", "tekken.json")


def load_slow(files: ModelFiles) -> tuple[Tokens, dict[str, str]]:
    """The tokenizer and its named special tokens (name → text).

    Raises ModelLoadFailed if the directory has no tokenizer or transformers cannot read it, ModelUnsupported if it
    needs code of its own.
    """
    if not any(next(files.path.glob(pattern), None) for pattern in _SOURCES):
        raise ModelLoadFailed(files.name, because="it has no tokenizer.json and no other tokenizer file")
    mapped = files.tokenizer_config.get("auto_map")
    if isinstance(mapped, list) or (isinstance(mapped, dict) and "AutoTokenizer" in mapped):
        raise ModelUnsupported(
            files.name, because="its tokenizer needs code from its own directory, which is never run"
        )
    tokenizer = _from_transformers(files)
    special_tokens = {name: str(text) for name, text in tokenizer.special_tokens_map.items() if isinstance(text, str)}
    backend = getattr(tokenizer, "backend_tokenizer", None)
    return (SlowTokens(tokenizer) if backend is None else FastTokens(backend)), special_tokens


def _from_transformers(files: ModelFiles) -> Any:
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(files.path, trust_remote_code=False, local_files_only=True)
    except Exception as failed:  # each tokenizer class raises what it likes for a file it cannot read
        raise ModelLoadFailed(files.name, because=f"transformers cannot read its tokenizer: {failed}") from failed


class SlowTokens:
    """A tokenizer written in Python. Its decoding is nobody's to predict, so it has no family."""

    family = None

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self.size = len(tokenizer)
        self.special: frozenset[int] = frozenset(tokenizer.all_special_ids)

    def encode(self, text: str, add_special: bool) -> list[int]:
        return list(self._tokenizer.encode(text, add_special_tokens=add_special))

    def decode(self, tokens: Sequence[int], skip_special: bool) -> str:
        known = [token for token in tokens if token < self.size]
        text = self._tokenizer.decode(known, skip_special_tokens=skip_special, clean_up_tokenization_spaces=False)
        return str(text)

    def token(self, token: int) -> str | None:
        return self._tokenizer.convert_ids_to_tokens(token) if token < self.size else None

    def token_id(self, text: str) -> int | None:
        token = self._tokenizer.convert_tokens_to_ids(text)
        return token if isinstance(token, int) else None
