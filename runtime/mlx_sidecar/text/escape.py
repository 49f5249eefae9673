"""A chat as tokens, in which no text of a message, a tool or a variable is a control token.

Control tokens of the template's own stay. Which are its own is seen from a second rendering, of disguised texts. Where
none is of a text, the tokens are those of the chat as it is.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Collection, Mapping
from functools import cached_property
from typing import Any, NamedTuple

from mlx_sidecar.text.controls import ControlTokens, Place
from mlx_sidecar.text.disguise import DISGUISED_WORD, Disguise, Path, texts_of
from mlx_sidecar_protocol.errors import InvalidParams, UnsupportedParameter

Given = Mapping[str, Any]  # messages, tools, template_args
Render = Callable[[Given], str]

# Templates compare these with words of their own, and some make control tokens of the first: ``<|user|>``.
_STRUCTURE = ("role", "type")


class Chat(NamedTuple):
    text: str
    tokens: list[int]


def escaped_chat(given: Given, render: Render, controls: ControlTokens) -> Chat:
    """``given`` under a template. ``render`` raises what ``ChatTemplates.render`` does.

    A template that looks for a control token in a text does not find it: then the chat's text is another than without.
    """
    rendered = render(given)
    disguise = Disguise(controls.characters, [rendered, *(text for text, _ in texts_of(given))])
    disguised = _disguised(given, render, disguise, controls, rendered)
    text = disguise.off(disguised)
    found = controls.encode(text)
    if len(text) == len(disguised) and all(_is_own(place, text, disguised, controls) for place in found.places):
        return Chat(text, found.tokens)
    own = _own_places(disguised, controls)
    return Chat(text, controls.escaped(text, _moved(disguised, own, disguise)))


def _own_places(disguised: str, controls: ControlTokens) -> list[Place]:
    """The control tokens of the template. Words in disguise are read as one character: no vocabulary knows them."""
    parts, at = list[str](), 0
    ends, shorter = list[int](), [0]  # behind a word, in the shortened text, that text is shorter by so many characters
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
    except Exception as failed:  # the library's, where there is no token for what is not in the vocabulary
        because = "the model's tokenizer takes no characters that its vocabulary does not know"
        raise UnsupportedParameter("escape_special", because=because) from failed
    return [Place(place.token, moved(place.start), moved(place.end)) for place in places]


def _is_own(place: Place, text: str, disguised: str, controls: ControlTokens) -> bool:
    """Whether the template wrote this control token, character by character."""
    read = text[place.start : place.end]
    return read == disguised[place.start : place.end] and controls.text_of(place.token) in read


def _disguised(given: Given, render: Render, disguise: Disguise, controls: ControlTokens, rendered: str) -> str:
    """The chat in disguise."""
    choose = _Choose(controls.texts)
    try:
        everything = render(disguise.of(given, choose.all))
    except InvalidParams:  # the template objects to a text that it does not know
        pass
    else:
        if disguise.off(everything) == rendered:
            return everything
    # The template looks at some text. Those that hold a control token, or the beginning or the end of one, are hidden
    # from it; the latter only if the chat has other control tokens otherwise.
    holding, touching = (render(disguise.of(given, chosen)) for chosen in (choose.holding, choose.touching))
    of_holding, of_touching = ([place.token for place in controls.encode(chat).places] for chat in (holding, touching))
    return holding if of_holding == of_touching else touching


def _moved(disguised: str, own: list[Place], disguise: Disguise) -> list[Place]:
    """The same places in the chat without disguise, which may be shorter."""
    moved: list[Place] = []
    at = length = 0
    for place in own:
        length += len(disguise.off(disguised[at : place.start]))
        moved.append(Place(place.token, length, length + place.end - place.start))
        length, at = moved[-1].end, place.end
    return moved


class _Choose:
    """Which texts are disguised."""

    def __init__(self, controls: Collection[str]) -> None:
        self._controls = controls

    def all(self, text: str, path: Path) -> bool:
        return not _is_structure(path) or self.holding(text, path)

    def holding(self, text: str, path: Path) -> bool:
        """With the whole text of a control token in it."""
        return any(control in text for control in self._controls)

    def touching(self, text: str, path: Path) -> bool:
        """That, or it can be a part of one together with what stands beside it."""
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
