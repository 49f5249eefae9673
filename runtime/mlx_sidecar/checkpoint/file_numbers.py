"""The rules for numbers in a model's files, shared by all readers. Imports the standard library alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeGuard

from mlx_sidecar_protocol.errors import ModelLoadFailed

# The keys of the context length, which differ by architecture.
_CONTEXT_LENGTH = (
    "max_position_embeddings",
    "max_sequence_length",
    "n_positions",
    "n_ctx",
    "seq_length",
    "max_seq_len",
)
# A larger number means "no limit", which tokenizer_config.json writes as 10^30.
CONTEXT_LENGTH_LIMIT = 10**9
TOKEN_LIMIT = 2**31  # token ids are computed with as signed 32-bit numbers
_LISTED_TOKENS = 1024
_SHOWN = 64  # characters of a value of a file, in an error
_IN_SHORT = 800  # characters of a library's error message


def is_count(value: object, limit: int) -> TypeGuard[int]:
    """Whether ``value`` is a whole number from 0 to below ``limit``; a bool is not, although Python's is an int."""
    return type(value) is int and 0 <= value < limit


def shown(value: object) -> str:
    """``value`` as text for a message: short, on one line, and of characters that can be encoded."""
    if isinstance(value, (list, dict)):
        return "a list" if isinstance(value, list) else "an object"
    text = repr(value[: _SHOWN + 1] if isinstance(value, str) else value)
    return (text if text.isprintable() else ascii(text))[: _SHOWN + 2]


def in_short(error: BaseException) -> str:
    """``error`` as text for a message, cut short, because a library's error may name every tensor of a model."""
    text = " ".join(str(error).encode("ascii", "backslashreplace").decode().split())
    return f"{type(error).__name__}: {text if len(text) <= _IN_SHORT else text[:_IN_SHORT] + '…'}"


def context_length(*lengths: object) -> int | None:
    """The first of ``lengths`` that is a number of tokens within the limit; None if there is none."""
    return next((value for value in lengths if is_count(value, CONTEXT_LENGTH_LIMIT) and value), None)


def context_lengths(config: Mapping[str, Any]) -> list[object]:
    """The values of all context length keys in config.json and its ``text_config``."""
    nested = config.get("text_config")
    sources = (config, nested if isinstance(nested, Mapping) else {})
    return [source.get(key) for source in sources for key in _CONTEXT_LENGTH]


def token_ids(value: object, where: str, model: str) -> frozenset[int]:
    """The token ids in ``value``, which a file holds at ``where``: one id, a list of ids, or null.

    Numbers outside of 0 to ``TOKEN_LIMIT``, e.g. -1, are dropped, because real files hold them.

    Raises ModelLoadFailed for values of other types, and for a list that is too long.
    """
    listed = value if isinstance(value, list) else [] if value is None else [value]
    if len(listed) > _LISTED_TOKENS:
        raise ModelLoadFailed(model, f"{where} lists {len(listed)} tokens, the limit is {_LISTED_TOKENS}")
    for each in listed:
        if type(each) is not int:
            raise ModelLoadFailed(model, f"{where} is no token id: {shown(each)}")
    return frozenset(each for each in listed if is_count(each, TOKEN_LIMIT))
