"""Finds the control tokens of a tokenizer, and encodes texts so that no part of them becomes one.

A control token is any token that was added to the vocabulary, flagged as special or not: ``<|im_end|>`` as well as
``<think>``, ``<tool_call>`` or ``[INST]``. Only added runs of white space count as plain text.

To encode a text without control tokens, a copy of the tokenizer is made whose added tokens have secret names, which
occur in no text. Where a control token is wanted, its secret name is written in its place, so the text around it is
encoded exactly as beside the original token.
"""

from __future__ import annotations

import secrets
import string
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple, Protocol

from mlx_sidecar_protocol.errors import UnsupportedParameter

from .vocabulary import without_texts

if TYPE_CHECKING:
    from tokenizers import AddedToken, Tokenizer
    from tokenizers.models import Model

_BLANK = string.whitespace + "▁"
_IN_NO_VOCABULARY = "\U0010fffd"
_SECRET_CHARACTERS = 24  # of 26 letters: 112 bits


class Place(NamedTuple):
    """A control token, and the characters of the text that it stands for."""

    token: int
    start: int
    end: int


class Encoded(NamedTuple):
    tokens: list[int]
    places: list[Place]  # of control tokens, in order


class ControlTokens(Protocol):
    """The control tokens of a tokenizer of any library. Safe to use from several threads."""

    @property
    def texts(self) -> Collection[str]: ...

    @property
    def characters(self) -> Sequence[str]:
        """All characters of ``texts``, each once."""
        ...

    def text_of(self, token: int) -> str:
        """The text of a control token."""
        ...

    def encode(self, text: str) -> Encoded:
        """The tokens of ``text`` without the special tokens that the tokenizer puts around a text."""
        ...

    def escaped(self, text: str, wanted: Sequence[Place] = ()) -> list[int]:
        """The token ids of ``text`` with no control tokens but those ``wanted``, which are in order.

        Raises UnsupportedParameter naming ``escape_special`` if the tokenizer does not allow it.
        """
        ...


class Controls:
    """The control tokens of a tokenizer of the tokenizers library."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._added = tokenizer.get_added_tokens_decoder()
        self._controls = {token for token, described in self._added.items() if described.content.strip(_BLANK)}
        self.texts = frozenset(self._added[token].content for token in self._controls)
        self.characters = sorted(set("".join(self.texts)))

    def text_of(self, token: int) -> str:
        return self._added[token].content

    def encode(self, text: str) -> Encoded:
        encoding = self._tokenizer.encode_batch([text], add_special_tokens=False)[0]
        found = zip(encoding.ids, encoding.offsets, strict=True)
        places = [Place(token, start, end) for token, (start, end) in found if self._is_control(token, text[start:end])]
        return Encoded(encoding.ids, places)

    def escaped(self, text: str, wanted: Sequence[Place] = ()) -> list[int]:
        written = [place.token for place in wanted if place.token != self._unknown]
        for renamed in self._renamings():
            tokens = renamed.encode(text, wanted)
            if [token for token in tokens if self._is_control(token, "")] == written:
                return tokens
        because = "the model's tokenizer makes control tokens of plain text, or none of their own texts"
        raise UnsupportedParameter("escape_special", because=because)

    def _is_control(self, token: int, text: str) -> bool:
        # Any text may become the unknown token.
        return token in self._controls and (token != self._unknown or self._added[token].content == text.strip(_BLANK))

    @cached_property
    def _unknown(self) -> int | None:
        """The token for text that is not in the vocabulary, if there is one."""
        text = getattr(self._tokenizer.model, "unk_token", None)
        if isinstance(text, str):
            return self._tokenizer.token_to_id(text)
        try:
            tokens = self._tokenizer.encode_batch([_IN_NO_VOCABULARY], add_special_tokens=False)[0].ids
        except Exception:  # noqa: BLE001  # the library raises bare Exception where there is no such token
            return None
        return next((token for token in tokens if token in self._controls), None)

    def _renamings(self) -> Iterator[_Renamed]:
        """Copies to try in order; the second is made only if the first does not serve."""
        yield self._renamed
        yield self._renamed_and_unlearned

    @cached_property
    def _renamed(self) -> _Renamed:
        """A copy with the tokenizer's own vocabulary, which costs nothing and serves most tokenizers."""
        return _Renamed(self._tokenizer, self._tokenizer.model, self._added)

    @cached_property
    def _renamed_and_unlearned(self) -> _Renamed:
        """A copy whose vocabulary lacks the texts of control tokens, for tokenizers that build them from parts."""
        return _Renamed(self._tokenizer, without_texts(self._tokenizer, self.texts), self._added)


class _Renamed:
    """A tokenizer whose added tokens have secret names."""

    def __init__(self, tokenizer: Tokenizer, model: Model, added: Mapping[int, AddedToken]) -> None:
        from tokenizers import Tokenizer as Other

        self._tokenizer = Other(model)
        if tokenizer.normalizer is not None:
            self._tokenizer.normalizer = tokenizer.normalizer
        if tokenizer.pre_tokenizer is not None:
            self._tokenizer.pre_tokenizer = tokenizer.pre_tokenizer
        self._added = added
        self._names = dict(zip(added, _names([described.content for described in added.values()]), strict=True))
        self._tokenizer.add_tokens([_with_name(described, self._names[token]) for token, described in added.items()])
        # Ids of the copy's added tokens, to the ids of the original's.
        self._own = {self._tokenizer.token_to_id(name): token for token, name in self._names.items()}

    def encode(self, text: str, wanted: Sequence[Place]) -> list[int]:
        parts, at = list[str](), 0
        for place in wanted:
            start, end = self._core(text, place)
            parts += text[at:start], self._names[place.token]
            at = end
        parts.append(text[at:])
        tokens = self._tokenizer.encode_batch(["".join(parts)], add_special_tokens=False)[0].ids
        return [self._own.get(token, token) for token in tokens]

    def _core(self, text: str, place: Place) -> tuple[int, int]:
        """The characters of a control token without the white space around it that it absorbs."""
        found, content = text[place.start : place.end], self._added[place.token].content
        core = content if content in found else found.strip()
        start = place.start + found.index(core)
        return start, start + len(core)


def _names(texts: Sequence[str]) -> Iterable[str]:
    """A secret name for each of ``texts``; white space keeps its own.

    A name keeps the first and the last character of its text, because ``single_word`` tokens depend on the characters
    beside them.
    """
    secret = "".join(secrets.choice(string.ascii_lowercase) for _ in range(_SECRET_CHARACTERS))
    for number, text in enumerate(texts):
        if not text.strip(_BLANK):
            yield text
            continue
        digits = (string.ascii_lowercase[number // 26**place % 26] for place in range(5))
        yield f"{text[0]}{secret}{''.join(digits)}{text[-1]}"


def _with_name(described: AddedToken, name: str) -> AddedToken:
    from tokenizers import AddedToken

    return AddedToken(
        name,
        single_word=described.single_word,
        lstrip=described.lstrip,
        rstrip=described.rstrip,
        normalized=described.normalized,
    )
