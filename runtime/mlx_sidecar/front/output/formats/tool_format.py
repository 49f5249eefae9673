"""A tool format says, as data, how models of one kind write their calls; parser and grammar are both made from it.

An answer that calls is text, then a block: ``begin``, calls with ``between`` between them, ``end``. What a call is made
of depends on its body:

- ``JsonObject``: ``open``, a JSON object with the name and the arguments, ``close``
- all others: ``open``, the name, ``after_name``, the arguments, ``close``

White space in these texts is what the grammar writes; the parser takes any, or none, at its place.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class JsonObject:
    """The call is one JSON object whose members are the name, the arguments and, where ``id`` names one, its id.

    ``id_first``: the id, a number, is the first member.
    """

    name: str = "name"
    arguments: str = "arguments"
    id: str | None = None
    id_first: bool = False


@dataclass(frozen=True)
class JsonArguments:
    """The arguments are one JSON object. ``indexed``: the name is written ``functions.NAME:INDEX``, which is the id."""

    indexed: bool = False


@dataclass(frozen=True)
class Parameters:
    """Each argument is ``open``, its name, ``after_name``, its value, ``close``; strings stand as they are.

    Other values are JSON, or literals of Python. ``typed``: ``after_name`` has a ``{string}``, which is ``true`` where
    the value is a string, else ``false``. ``cdata``: a string may stand in ``<![CDATA[`` and ``]]>``.
    """

    open: str
    after_name: str
    close: str
    between: str = ""
    typed: bool = False
    cdata: bool = False


@dataclass(frozen=True)
class Pythonic:
    """``NAME(key=value, …)`` with literals of Python."""


@dataclass(frozen=True)
class Bare:
    """``{key:value,…}`` with bare keys; strings stand between ``quote`` as they are."""

    quote: str


Body = JsonObject | JsonArguments | Parameters | Pythonic | Bare


@dataclass(frozen=True)
class ToolFormat:
    """How calls are written; see the module.

    ``signs`` tell a model's format: of one of them, all strings stand in its chat template. ``before_id``: text that
    may stand behind the name, with the call's id behind it. ``announced``: a text of its own tells that calls begin;
    else they are calls only at the beginning of the answer and by the name of a tool that the model was given.
    ``prefix`` and ``suffix``: texts that may stand around a block that is not announced otherwise.
    ``tokens``: those of the markers that may be special tokens, which the parser has to see. ``ends``: tokens that end
    a turn with calls, whatever the model's configuration says.
    """

    name: str
    signs: tuple[tuple[str, ...], ...]
    body: Body
    begin: str = ""
    open: str = ""
    before_id: str = ""
    after_name: str = ""
    close: str = ""
    between: str = ""
    end: str = ""
    announced: bool = True
    prefix: str = ""
    suffix: str = ""
    parallel: bool = True
    tokens: tuple[str, ...] = ()
    ends: tuple[str, ...] = ()
    layout: Literal["plain", "harmony"] = "plain"


@dataclass(frozen=True)
class ReasoningFormat:
    """Reasoning stands between ``begin`` and ``end``.

    ``tokens``: those of the parts of the markers that may be special tokens, beside the markers themselves.
    ``other_signs`` tell it as well as ``end`` does, standing in a model's chat template.
    """

    begin: str
    end: str
    tokens: tuple[str, ...] = ()
    other_signs: tuple[str, ...] = ()

    @property
    def signs(self) -> tuple[str, ...]:
        return (self.end, *self.other_signs)
