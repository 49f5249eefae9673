"""Encodes a prompt, with the tokenizer's special tokens around it, and on request without control tokens in it."""

from __future__ import annotations

from mlx_sidecar_protocol.errors import UnsupportedParameter

from .tokens import Encoder

# Texts of which at least one has tokens in any tokenizer.
_SAMPLES = ("a", "1", "the", "\u4e00")


def encode_prompt(tokenizer: Encoder, text: str, add_special: bool, escape: bool) -> list[int]:
    """Token ids of ``text``. ``add_special``: with the tokenizer's special tokens around it, but no second BOS.

    ``escape``: no part of ``text`` becomes a control token. Raises UnsupportedParameter naming ``escape_special`` if
    the tokenizer does not allow that.
    """
    if escape and (plain := _escaped(tokenizer, text)) is not None:
        before, behind = around(tokenizer) if add_special else ([], [])
        return [*before, *plain, *behind]
    tokens = tokenizer.encode(text, add_special)
    begins_twice = len(tokens) > 1 and tokens[0] in tokenizer.special and tokens.count(tokens[0]) > 1
    if escape or not add_special or not begins_twice:
        return tokens
    before, _ = around(tokenizer)
    twice = len(before) > 0 and tokens[: 2 * len(before)] == before + before
    return tokens[len(before) :] if twice else tokens


def _escaped(tokenizer: Encoder, text: str) -> list[int] | None:
    """None if there is nothing to escape in ``text``."""
    controls = tokenizer.controls
    if controls is None:
        because = "the model's tokenizer is not of the tokenizers library"
        raise UnsupportedParameter("escape_special", because=because)
    return controls.escaped(text) if controls.encode(text).places else None


def around(tokenizer: Encoder) -> tuple[list[int], list[int]]:
    """The tokens that the tokenizer puts before and behind every text."""
    for sample in _SAMPLES:
        alone, whole = tokenizer.encode(sample, False), tokenizer.encode(sample, True)
        for start in range(len(whole) - len(alone) + 1):
            if alone and whole[start : start + len(alone)] == alone:
                return whole[:start], whole[start + len(alone) :]
    return tokenizer.encode("", True), []
