"""Encodes a chat so that no text of a message, a tool or a variable becomes a control token.

Control tokens that the template writes stay. A second rendering, of disguised texts, shows which these are. If no text
holds a control token, the tokens are those of the chat as it is.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Collection, Mapping
from functools import cached_property
from typing import Any, NamedTuple

from mlx_sidecar_protocol.errors import InvalidParams, UnsupportedParameter

from .controls import ControlTokens, Place
from .disguise import DISGUISED_WORD, Disguise, Path, texts_of

Given = Mapping[str, Any]  # messages, tools, template_args
Render = Callable[[Given], str]

# Templates compare these fields with words of their own, and some write the role into a control token: ``<|user|>``.
_STRUCTURE = ("role", "type")


class Chat(NamedTuple):
    text: str
    tokens: list[int]


def escaped_chat(
    given: Given, render: Render, controls: ControlTokens, begin: Callable[[str], int] = lambda _: 0, before: str = ""
) -> Chat:
    """The text and token ids of the chat ``given``; errors of ``render`` and ``begin`` pass through.

    ``begin`` tells from its text where to begin; ``before`` is a text without control tokens to be encoded before that.
    A template that searches texts for a control token does not find it, so the chat's text may differ from a plain
    rendering. Raises UnsupportedParameter naming ``escape_special`` if the tokenizer does not allow it.
    """
    rendered = render(given)
    disguise = Disguise(controls.characters, [rendered, *(text for text, _ in texts_of(given))])
    disguised = _disguised(given, render, disguise, controls, rendered)
    text = disguise.off(disguised)
    found = controls.encode(text)
    at = begin(text)
    part = before + text[at:]
    if len(text) == len(disguised) and all(_is_own(place, text, disguised, controls) for place in found.places):
        return Chat(part, controls.encode(part).tokens if at else found.tokens)
    own = _moved(disguised, _own_places(disguised, controls), disguise)
    return Chat(part, controls.escaped(part, _later(own, at, len(before) - at)))


def _later(places: list[Place], at: int, by: int) -> list[Place]:
    """Those of ``places`` from ``at`` on, moved ``by`` characters."""
    return [Place(place.token, place.start + by, place.end + by) for place in places if place.start >= at]


def _own_places(disguised: str, controls: ControlTokens) -> list[Place]:
    """The template's control tokens; a disguised word is read as one character, since no vocabulary knows the word."""
    parts, at = list[str](), 0
    ends, shorter = list[int](), [0]  # ends of words in the shortened text; characters saved up to there
    for word in DISGUISED_WORD.finditer(disguised):
        parts.append(disguised[at : word.start() + 1])
        ends.append(word.start() + 1 - shorter[-1])
        shorter.append(shorter[-1] + len(word[0]) - 1)
        at = word.end()
    parts.append(disguised[at:])

    def moved(position: int) -> int:
        return position + shorter[bisect_right(ends, position)]

    try:
        places = controls.encode("".join(parts)).places
    except Exception as failed:  # the library's own, where a vocabulary has no unknown token
        because = "the model's tokenizer takes no characters that its vocabulary does not know"
        raise UnsupportedParameter("escape_special", because=because) from failed
    return [Place(place.token, moved(place.start), moved(place.end)) for place in places]


def _is_own(place: Place, text: str, disguised: str, controls: ControlTokens) -> bool:
    """Whether the template wrote this control token, character by character."""
    read = text[place.start : place.end]
    return read == disguised[place.start : place.end] and controls.text_of(place.token) in read


def _disguised(given: Given, render: Render, disguise: Disguise, controls: ControlTokens, rendered: str) -> str:
    """The chat rendered from disguised texts: of all texts, if that changes nothing else, or of as few as possible."""
    choose = _Choose(controls.texts)
    try:
        everything = render(disguise.of(given, choose.all))
    except InvalidParams:  # the template objects to a text that it does not know
        pass
    else:
        if disguise.off(everything) == rendered:
            return everything
    # The template looks at texts, so only those that hold a control token are disguised. Texts that hold a part of one
    # are disguised too if the chat would else have other control tokens.
    holding, touching = (render(disguise.of(given, chosen)) for chosen in (choose.holding, choose.touching))
    of_holding, of_touching = ([place.token for place in controls.encode(chat).places] for chat in (holding, touching))
    return holding if of_holding == of_touching else touching


def _moved(disguised: str, own: list[Place], disguise: Disguise) -> list[Place]:
    """The places ``own`` in the chat without disguise, which may be shorter."""
    moved: list[Place] = []
    at = length = 0
    for place in own:
        length += len(disguise.off(disguised[at : place.start]))
        moved.append(Place(place.token, length, length + place.end - place.start))
        length, at = moved[-1].end, place.end
    return moved


class _Choose:
    """Three choices of texts to disguise."""

    def __init__(self, controls: Collection[str]) -> None:
        self._controls = controls

    def all(self, text: str, path: Path) -> bool:
        return not _is_structure(path) or self.holding(text, path)

    def holding(self, text: str, path: Path) -> bool:
        """Whether ``text`` holds the whole text of a control token."""
        return any(control in text for control in self._controls)

    def touching(self, text: str, path: Path) -> bool:
        """Whether ``text`` holds one, or can form one together with the text beside it."""
        return self.holding(text, path) or (not _is_structure(path) and self._is_part(text.strip()))

    def _is_part(self, text: str) -> bool:
        begins = (text[:length] in self._ends for length in range(1, self._longest))
        ends = (text[-length:] in self._beginnings for length in range(1, self._longest))
        return bool(text) and (any(begins) or any(ends) or any(text in control for control in self._controls))

    @cached_property
    def _longest(self) -> int:
        return max(map(len, self._controls), default=0)

    @cached_property
    def _beginnings(self) -> set[str]:
        return {control[:length] for control in self._controls for length in range(1, len(control))}

    @cached_property
    def _ends(self) -> set[str]:
        return {control[start:] for control in self._controls for start in range(1, len(control))}


def _is_structure(path: Path) -> bool:
    return bool(path) and path[-1] in _STRUCTURE
