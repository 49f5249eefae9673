"""A grammar in Lark syntax that is written rule by rule, from the parts to the whole."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from ...link.forms import Marker, Token
from .lark_text import ANY, between_slashes, ending_with, exactly, literal, loosely, without


class Ref(str):
    """A part of a rule that is no text: the names of others, and what stands between them."""


NOTHING = Ref('""')
_REFERENCE = re.compile(r"\0(\d+) ([^\0]*)\0")  # to a token by its id and text; no literal has this character


class Rules:
    """Collects rules, terminals and grammars. Each is written once, and referred to by what is returned."""

    def __init__(self) -> None:
        self._bodies: dict[str, str] = {}
        self._names: dict[str, Ref] = {}
        self._grammars: list[dict[str, Any]] = []

    def rule(self, body: str) -> Ref:
        """A rule with ``body``."""
        return self._named("r", body)

    def named_rule(self) -> Ref:
        """A name for a rule that refers to itself; ``define`` writes it."""
        return self._new("r", "")

    def define(self, name: str, body: str) -> None:
        """Write the rule of a name that ``named_rule`` gave."""
        self._bodies[name] = body

    def terminal(self, *conditions: str) -> Ref:
        """A terminal of texts for which all ``conditions`` hold: regular expressions, some behind a ``~``."""
        return self._named("T", " & ".join(conditions))

    def grammar(self, grammar: dict[str, Any]) -> Ref:
        """Another grammar."""
        name = f"g{len(self._grammars)}"
        self._grammars.append({"name": name, **grammar})
        return Ref(f"@{name}")

    def one_of(self, alternatives: Iterable[str]) -> Ref:
        """Any of ``alternatives``."""
        return self.rule(" | ".join(dict.fromkeys(alternatives)))

    def list_of(self, part: str, between: str) -> Ref:
        """One or more of ``part``, with ``between`` between two."""
        return self.rule(f"{part} ({between} {part})*")

    def in_order(self, items: Sequence[tuple[str, bool]], between: str) -> Ref:
        """``items`` in their order, with ``between`` between two; those that are not required may be left out."""
        first = behind = NOTHING
        for item, required in reversed(items):
            first, behind = (
                self.rule(f"{item} {behind}" if required else f"{item} {behind} | {first}"),
                self.rule(f"{between} {item} {behind}" if required else f"{between} {item} {behind} | {behind}"),
            )
        return first

    def sequence(self, *parts: Sequence[str | Token]) -> Ref:
        """``parts`` one behind the other: texts, which are joined, markers, whose tokens are matched as such, and refs.

        Neighbouring texts are one, so that a name and what follows it are told from a longer name.
        """
        return Ref(" ".join(_written(piece) for piece in joined(*parts)) or NOTHING)

    def up_to(self, marker: Marker, *conditions: str) -> Ref:
        """Any text up to ``marker``, and the marker. The text does not have it spelled out: that would end it too."""
        lead, rest = lead_of(marker)
        if not rest:
            return self.terminal(ending_with(loosely(lead)), *conditions)
        spelled = without(loosely(text_of(marker)))
        before = self.terminal(between_slashes(ANY + exactly(lead)), spelled, *conditions)
        return Ref(f"{before} {self.sequence(rest)}")

    def free(self, *conditions: str) -> Ref:
        """Any text to the end of the answer."""
        return self.terminal(between_slashes(ANY), *conditions)

    def grammars(self, start: str, *, checked: bool) -> list[dict[str, Any]]:
        """The grammars, that of the answer first. ``checked``: with texts for tokens, which need a tokenizer."""
        lines = [f"start: {start}", *(f"{name}: {body}" for name, body in self._bodies.items())]
        written = _REFERENCE.sub((lambda found: literal(found[2])) if checked else r"<[\1]>", "\n".join(lines))
        return [{"lark_grammar": written}, *self._grammars]

    def _named(self, kind: str, body: str) -> Ref:
        return self._names.get(body) or self._new(kind, body)

    def _new(self, kind: str, body: str) -> Ref:
        name = Ref(f"{kind}{len(self._bodies)}")
        self._bodies[name] = body
        if body:
            self._names[body] = name
        return name


def joined(*parts: Sequence[str | Token]) -> list[str | Token]:
    """The pieces of ``parts``, in which no two texts stand side by side and none is empty."""
    made: list[str | Token] = []
    for piece in (piece for part in parts for piece in ([part] if isinstance(part, str) else part)):
        if made and _is_text(piece) and _is_text(made[-1]):
            made[-1] = f"{made[-1]}{piece}"
        elif piece:
            made.append(piece)
    return made


def lead_of(marker: Marker) -> tuple[str, Marker]:
    """The text that ``marker`` begins with, and the rest, which begins with a token unless it is empty."""
    at = next((at for at, piece in enumerate(marker) if isinstance(piece, Token)), len(marker))
    return text_of(marker[:at]), marker[at:]


def text_of(marker: Marker) -> str:
    """``marker`` as a parser reads it."""
    return "".join(piece.text if isinstance(piece, Token) else piece for piece in marker)


def without_lead(marker: Marker, lead: Marker) -> Marker:
    """The part of ``marker`` behind ``lead``, which it begins with."""
    rest, length = list(marker), len(text_of(lead))
    while length:
        piece = rest.pop(0)
        text = text_of([piece])
        if length < len(text):
            rest.insert(0, text[length:])
        length -= min(length, len(text))
    return rest


def _is_text(piece: str | Token) -> bool:
    return isinstance(piece, str) and not isinstance(piece, Ref)


def _written(piece: str | Token) -> str:
    if isinstance(piece, Token):
        return f"\0{piece.id} {piece.text}\0"
    return piece if isinstance(piece, Ref) else literal(piece)
