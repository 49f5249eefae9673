"""A prompt as tokens: with what the tokenizer puts around a text, and, if asked for, without control tokens in it."""

from __future__ import annotations

from functools import cached_property

from mlx_sidecar.text.tokens import Encoder
from mlx_sidecar_protocol.errors import UnsupportedParameter

# Texts of which any tokenizer makes something.
_SAMPLES = ("a", "1", "the", "\u4e00")


class Prompts:
    """For one tokenizer. Safe to use from several threads."""

    def __init__(self, tokens: Encoder) -> None:
        self._tokens = tokens

    def encode(self, text: str, add_special: bool, escape: bool) -> list[int]:
        """Tokens of ``text``. ``add_special``: with what the tokenizer puts around it, a BOS that it begins with once.

        ``escape``: no part of ``text`` becomes a control token. Raises UnsupportedParameter naming ``escape_special``
        if the tokenizer does not allow that.
        """
        if escape and (plain := self._escaped(text)) is not None:
            before, behind = self._around
            return [*before, *plain, *behind] if add_special else plain
        tokens = self._tokens.encode(text, add_special)
        if not add_special or escape:
            return tokens
        before, _ = self._around
        twice = len(before) > 0 and tokens[: 2 * len(before)] == before + before
        return tokens[len(before) :] if twice else tokens

    def _escaped(self, text: str) -> list[int] | None:
        """None if there is nothing to escape in ``text``."""
        controls = self._tokens.controls
        if controls is None:
            because = "the model's tokenizer is not of the tokenizers library"
            raise UnsupportedParameter("escape_special", because=because)
        return controls.escaped(text) if controls.encode(text).places else None

    @cached_property
    def _around(self) -> tuple[list[int], list[int]]:
        """What the tokenizer puts before and behind every text."""
        for sample in _SAMPLES:
            alone, around = self._tokens.encode(sample, False), self._tokens.encode(sample, True)
            for start in range(len(around) - len(alone) + 1):
                if alone and around[start : start + len(alone)] == alone:
                    return around[:start], around[start + len(alone) :]
        return self._tokens.encode("", True), []
