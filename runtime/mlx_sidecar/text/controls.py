"""The control tokens of a tokenizer, and encodings in which a text cannot become one.

A control token is any token that was added to the vocabulary, flagged as special or not: ``<|im_end|>`` as well as
``<think>``, ``<tool_call>`` or ``[INST]``. Only runs of white space, which some tokenizers add too, are plain text.

To encode a text without them, the same tokenizer is put together once more with its added tokens under secret names.
Nothing of a text is found among these, and where a control token is wanted, its name is written in its place: so the
text before and behind it is read exactly as the tokenizer reads it beside its own.
"""

from __future__ import annotations

import secrets
import string
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple, Protocol

from mlx_sidecar.text.vocabulary import without_texts
from mlx_sidecar_protocol.errors import UnsupportedParameter

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
    """The control tokens of a tokenizer, whatever library it is of. Safe to use from several threads."""

    @property
    def texts(self) -> Collection[str]: ...

    @property
    def characters(self) -> Sequence[str]:
        """All that are in ``texts``, each once."""
        ...

    def text_of(self, token: int) -> str:
        """Of a control token."""
        ...

    def encode(self, text: str) -> Encoded:
        """What the tokenizer makes of ``text``, without what it puts around one."""
        ...

    def escaped(self, text: str, wanted: Sequence[Place] = ()) -> list[int]:
        """``text`` with no control tokens but those ``wanted``, which are in order.

        Raises UnsupportedParameter naming ``escape_special`` if the tokenizer does not allow it.
        """
        ...


class Controls:
    """Of a tokenizer of the tokenizers library."""

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
        # The token for what is not in the vocabulary may come of any text.
        return token in self._controls and (token != self._unknown or self._added[token].content == text.strip(_BLANK))

    @cached_property
    def _unknown(self) -> int | None:
        """The token for what is not in the vocabulary."""
        text = getattr(self._tokenizer.model, "unk_token", None)
        if isinstance(text, str):
            return self._tokenizer.token_to_id(text)
        try:
            tokens = self._tokenizer.encode_batch([_IN_NO_VOCABULARY], add_special_tokens=False)[0].ids
        except Exception:  # noqa: BLE001  # what the library raises where there is no such token
            return None
        return next((token for token in tokens if token in self._controls), None)

    def _renamings(self) -> Iterator[_Renamed]:
        """The next is made only if the one before does not do."""
        yield self._renamed
        yield self._renamed_and_unlearned

    @cached_property
    def _renamed(self) -> _Renamed:
        """With the tokenizer's own vocabulary, which costs nothing: most cannot make a control token of its parts."""
        return _Renamed(self._tokenizer, self._tokenizer.model, self._added)

    @cached_property
    def _renamed_and_unlearned(self) -> _Renamed:
        """With a vocabulary of its own, which does not hold the texts of control tokens."""
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
        # Their numbers here are others than there.
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
        """The characters of a control token without the white space around it that it takes in."""
        found, content = text[place.start : place.end], self._added[place.token].content
        core = content if content in found else found.strip()
        start = place.start + found.index(core)
        return start, start + len(core)


def _names(texts: Sequence[str]) -> Iterable[str]:
    """A secret name for each of ``texts`` that is not white space.

    With its first and its last character, for there are tokens that look at what they stand beside.
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
