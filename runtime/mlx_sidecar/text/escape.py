"""A chat as tokens, in which no text of a message, a tool or a variable is a control token.

Control tokens of the template's own stay. Which are its own is seen from a second rendering, of disguised texts. Where
none is of a text, the tokens are those of the chat as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import cached_property
from typing import Any, NamedTuple

from mlx_sidecar.text.controls import ControlTokens, Place
from mlx_sidecar.text.disguise import Disguise, Path, texts_of
from mlx_sidecar_protocol.errors import InvalidParams

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
    disguise = Disguise(controls.texts, [rendered, *(text for text, _ in texts_of(given))])
    disguised, own = _disguised(given, render, disguise, controls, rendered)
    text = disguise.off(disguised)
    found = controls.encode(text)
    if found.places == own:
        return Chat(text, found.tokens)
    return Chat(text, controls.escaped(text, _moved(disguised, own, disguise)))


def _disguised(
    given: Given, render: Render, disguise: Disguise, controls: ControlTokens, rendered: str
) -> tuple[str, list[Place]]:
    """The chat in disguise, and the template's own control tokens in it."""
    choose = _Choose(controls.texts)
    try:
        everything = render(disguise.of(given, choose.all))
    except InvalidParams:  # the template objects to a text that it does not know
        pass
    else:
        if disguise.off(everything) == rendered:
            return everything, controls.encode(everything).places
    # The template looks at some text. Those that hold a control token, or the beginning or the end of one, are hidden
    # from it; the latter only if the chat has other control tokens otherwise.
    holding, touching = (render(disguise.of(given, chosen)) for chosen in (choose.holding, choose.touching))
    of_holding, of_touching = controls.encode(holding).places, controls.encode(touching).places
    same = [place.token for place in of_holding] == [place.token for place in of_touching]
    return (holding, of_holding) if same else (touching, of_touching)


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
