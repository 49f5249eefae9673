"""Forms of an answer as they cross the link to a text process, which makes a grammar of them."""

from __future__ import annotations

from typing import Literal

import msgspec

REASONING_BEGIN, REASONING_END = "<think>", "</think>"

Reasoning = Literal["none", "open", "optional"]
"""Whether reasoning precedes the form: the prompt has opened it (``open``), or the answer may (``optional``)."""

Path = list[str | int]
"""Where something stands in the host's request."""


class Token(msgspec.Struct, frozen=True):
    """A marker that the model's vocabulary has as one token, which stands for its ``text`` to a parser."""

    id: int
    text: str


Marker = list[str | Token]
"""A text of the model's own, e.g. the beginning of a call: plain text and tokens, one behind the other."""


class Thought(msgspec.Struct, frozen=True, tag=True):
    """The reasoning before a form, and the markers around it."""

    reasoning: Reasoning = "none"
    begin: Marker = []
    end: Marker = []


class Harmony(msgspec.Struct, frozen=True, tag=True):
    """The beginnings of the messages that make an answer: of reasoning, of text before a call, and of the last.

    Each but the last has ``end`` behind it, and ``next`` before the next one. No message has a text of ``marks`` in it.
    """

    analysis: Marker
    preamble: Marker
    final: Marker
    end: Marker
    next: Marker
    marks: list[str]


Before = Thought | Harmony
"""The text that precedes a form, or may."""

NOTHING_BEFORE = Thought()


class JsonForm(msgspec.Struct, frozen=True, tag=True):
    """JSON under a ``schema``, itself JSON text, which stands at ``place`` in the host's request.

    ``fixed``: one space behind commas and colons, and no other; else up to 8 white spaces wherever JSON has them.
    """

    schema: bytes
    place: Path
    fixed: bool


class RegexForm(msgspec.Struct, frozen=True, tag=True):
    """Text that ``pattern`` matches as a whole."""

    pattern: str


class ChoiceForm(msgspec.Struct, frozen=True, tag=True):
    """One of ``choices``."""

    choices: list[str]


class GrammarForm(msgspec.Struct, frozen=True, tag=True):
    """Text of a context-free grammar."""

    syntax: Literal["lark", "gbnf"]
    grammar: str


Form = JsonForm | RegexForm | ChoiceForm | GrammarForm


class ObjectCall(msgspec.Struct, frozen=True, tag=True):
    """A call is one JSON object with these members: the name, the arguments, an id first or last, or none."""

    name: str
    arguments: str
    id: str | None
    id_first: bool


class ObjectArguments(msgspec.Struct, frozen=True, tag=True):
    """Arguments are one JSON object. ``indexed``: the name is written ``functions.NAME:INDEX``."""

    indexed: bool


class MarkedArguments(msgspec.Struct, frozen=True, tag=True):
    """Each argument is ``open``, its name, ``after_name``, its value, ``close``, with ``between`` between two.

    A ``{string}`` in ``after_name`` is ``true`` where the value is a text as it stands, else ``false``.
    """

    open: Marker
    after_name: Marker
    close: Marker
    between: Marker


class PythonArguments(msgspec.Struct, frozen=True, tag=True):
    """Arguments are keywords with literals of Python: ``(a=1, b="x")``."""


class BareArguments(msgspec.Struct, frozen=True, tag=True):
    """Arguments are an object with bare keys, ``{a:1,b:true}``; strings stand between ``quote`` as they are."""

    quote: Marker


Body = ObjectCall | ObjectArguments | MarkedArguments | PythonArguments | BareArguments


class CallShape(msgspec.Struct, frozen=True):
    """How a model writes a block of calls: ``begin``, calls with ``between`` between two, ``end``.

    Of an ``ObjectCall``, a call is ``open``, the object, ``close``; else ``open``, the name, ``before_id`` with an id
    (if it is not empty), ``after_name``, the arguments, ``close``. ``trigger``: the first text of a block, by which a
    text before it ends; empty where a call can only be the whole answer. ``lead``: how such an answer begins.
    """

    body: Body
    begin: Marker
    open: Marker
    before_id: Marker
    after_name: Marker
    close: Marker
    between: Marker
    end: Marker
    trigger: Marker
    lead: list[str]


class Tool(msgspec.Struct, frozen=True):
    """A tool that may be called, which stands at ``place`` in the host's request.

    ``schema``: JSON text of its arguments' schema, which stands at ``schema_place``; None for any arguments.
    ``texts``: names of arguments that are read as texts where the model writes them without quotes.
    """

    name: str
    place: Path
    schema: bytes | None
    schema_place: Path
    texts: list[str]


class CallsForm(msgspec.Struct, frozen=True, tag=True):
    """Calls of ``tools``. ``required``: nothing else; ``offered``: text, or text and then calls; ``forbidden``: text.

    ``several``: more than one call may come. ``instead``: where calls are offered, this form in the place of text.
    """

    tools: list[Tool]
    shape: CallShape
    demand: Literal["required", "offered", "forbidden"]
    several: bool
    instead: Form | None = None


AnswerForm = Form | CallsForm
