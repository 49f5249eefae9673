"""Numbers that come with a model: one rule for all who read them. Knows the standard library alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeGuard

from mlx_sidecar_protocol.errors import ModelLoadFailed

# Where the length of the context stands, by age and habit of the architecture.
_CONTEXT_LENGTH = (
    "max_position_embeddings",
    "max_sequence_length",
    "n_positions",
    "n_ctx",
    "seq_length",
    "max_seq_len",
)
# tokenizer_config.json says 10^30 for "no limit"; above this a number there means nothing.
CONTEXT_LENGTH_LIMIT = 10**9
TOKEN_LIMIT = 2**31  # ids are 32-bit numbers wherever they are computed with
_LISTED_TOKENS = 1024
_SHOWN = 64  # characters of what a file says, in an error
_IN_SHORT = 800  # characters of what a library says


def is_count(value: object, limit: int) -> TypeGuard[int]:
    """Whether ``value`` is a whole number from 0 to below ``limit``. JSON's true is none, although Python's is."""
    return type(value) is int and 0 <= value < limit


def shown(value: object) -> str:
    """``value`` as a message may hold it: short, on one line, and of characters that can be encoded."""
    if isinstance(value, (list, dict)):
        return "a list" if isinstance(value, list) else "an object"
    text = repr(value[: _SHOWN + 1] if isinstance(value, str) else value)
    return (text if text.isprintable() else ascii(text))[: _SHOWN + 2]


def in_short(error: BaseException) -> str:
    """``error`` as a message may hold it: a library's may name every tensor of a model, or hold a page of HTML."""
    text = " ".join(str(error).encode("ascii", "backslashreplace").decode().split())
    return f"{type(error).__name__}: {text if len(text) <= _IN_SHORT else text[:_IN_SHORT] + '…'}"


def context_length(*lengths: object) -> int | None:
    """The first of ``lengths`` that is one, in tokens. A number beyond the limit says that there is no limit."""
    return next((value for value in lengths if is_count(value, CONTEXT_LENGTH_LIMIT) and value), None)


def context_lengths(config: Mapping[str, Any]) -> list[object]:
    """What config.json says of the length of the context, outside or in its ``text_config``."""
    nested = config.get("text_config")
    sources = (config, nested if isinstance(nested, Mapping) else {})
    return [source.get(key) for source in sources for key in _CONTEXT_LENGTH]


def token_ids(value: object, where: str, model: str) -> frozenset[int]:
    """The ids that a file names at ``where``: one, a list of them, or null for none.

    Numbers that no token has, as -1 or one beyond every vocabulary, name none; real files hold them.

    Raises ModelLoadFailed for what is no number, and for a list that is too long.
    """
    listed = value if isinstance(value, list) else [] if value is None else [value]
    if len(listed) > _LISTED_TOKENS:
        raise ModelLoadFailed(model, f"{where} lists {len(listed)} tokens, the limit is {_LISTED_TOKENS}")
    for each in listed:
        if type(each) is not int:
            raise ModelLoadFailed(model, f"{where} is no token id: {shown(each)}")
    return frozenset(each for each in listed if is_count(each, TOKEN_LIMIT))
