"""Adds the named and added tokens of ``tokenizer_config.json`` and its older companions to a tokenizer.

Models hold the same facts in up to four files. Their precedence is that of transformers 5, because models are published
against it: ``tokenizer.json`` alone decides which tokens an encoding begins and ends with; the configuration may add
tokens, and change the flags of present ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mlx_sidecar_protocol.errors import ModelLoadFailed

from .files import ModelFiles

if TYPE_CHECKING:
    from tokenizers import AddedToken, Tokenizer

_NAMED = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


def complete(tokenizer: Tokenizer, files: ModelFiles) -> dict[str, str]:
    """Add the tokens of the other files to ``tokenizer``; returns the named special tokens (name → text).

    Raises ModelLoadFailed for a malformed description of a token.
    """
    try:
        return _complete(tokenizer, files)
    except (TypeError, ValueError, KeyError, AttributeError) as broken:
        raise ModelLoadFailed(files.name, because=f"its special tokens cannot be understood: {broken}") from broken


def _complete(tokenizer: Tokenizer, files: ModelFiles) -> dict[str, str]:
    described = dict(files.tokenizer_config)
    legacy = "added_tokens_decoder" not in described  # only then do the older files count
    if legacy:
        described |= files.special_tokens_map
    extra = [_added(token, special=True) for token in _extra(described)]
    named = {name: _added(token, special=True) for name, token in _named(tokenizer, described).items()}
    special = {token.content: token for token in (*named.values(), *extra)}
    added = _added_by_files(files.added_tokens, special) if legacy else _added_by_config(described)
    _add(tokenizer, added, special)
    return {name: token.content for name, token in named.items()}


def _add(tokenizer: Tokenizer, added: Mapping[int, AddedToken], special: Mapping[str, AddedToken]) -> None:
    """Add tokens that are missing or differ: ``added`` by rising id, then ``special`` ones that no file describes."""
    present = tokenizer.get_added_tokens_decoder()
    same = {repr(token) for token in present.values()}
    wanted = [token for _, token in sorted(added.items()) if repr(token) not in same]
    known = {token.content for token in (*present.values(), *wanted)}
    for token in wanted:
        token.special = token.special or token.content in special
    tokenizer.add_tokens([*wanted, *(token for text, token in special.items() if text not in known)])


def _named(tokenizer: Tokenizer, described: Mapping[str, Any]) -> dict[str, Any]:
    """Name → token: the usual names, then those of this model (``image_token`` and the like)."""
    extra = described.get("extra_special_tokens")
    padding = tokenizer.padding
    everything = {
        **({"pad_token": padding["pad_token"]} if padding else {}),
        **described,
        **(extra if isinstance(extra, Mapping) else {}),
    }
    own = (name for name in everything if name.endswith("_token") and name not in _NAMED)
    return {name: everything[name] for name in (*_NAMED, *own) if isinstance(everything.get(name), str | Mapping)}


def _extra(described: Mapping[str, Any]) -> list[Any]:
    """Special tokens without a name."""
    listed = described.get("extra_special_tokens") or described.get("additional_special_tokens") or ()
    return [] if isinstance(listed, Mapping) else list(listed)


def _added_by_config(described: Mapping[str, Any]) -> dict[int, AddedToken]:
    return {int(token): _added(value) for token, value in described["added_tokens_decoder"].items()}


def _added_by_files(added_tokens: Mapping[str, int], special: Mapping[str, AddedToken]) -> dict[int, AddedToken]:
    """Tokens by id from added_tokens.json, which maps text → id and has no flags."""
    described = (
        {"content": text, "special": text in special, "normalized": text not in special} for text in added_tokens
    )
    return {token: _added(value) for token, value in zip(added_tokens.values(), described, strict=True)}


_FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")


def _added(value: Any, special: bool = False) -> AddedToken:
    """A token from its text, or from its text and flags; ``special`` overrides its flag."""
    from tokenizers import AddedToken

    if isinstance(value, str):
        return AddedToken(value, special=special)
    flags = {flag: bool(value[flag]) for flag in _FLAGS if flag in value}
    return AddedToken(value["content"], **(flags | ({"special": True} if special else {})))
