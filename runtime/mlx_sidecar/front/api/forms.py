"""The form of an answer on its way from the host's request to the engine's constraint."""

from __future__ import annotations

from functools import cache
from hashlib import sha256

import msgspec
from pydantic_core import to_json

from mlx_sidecar_protocol import response_format as wire
from mlx_sidecar_protocol.errors import UnsupportedParameter
from mlx_sidecar_protocol.generate import GenerateParams

from ...link.control_messages import ModelCard
from ...link.forms import (
    NOTHING_BEFORE,
    AnswerForm,
    Before,
    CallsForm,
    ChoiceForm,
    Form,
    GrammarForm,
    JsonForm,
    Reasoning,
    RegexForm,
)
from ...link.messages import Constraint, Vocabulary
from ...link.text_messages import Constrain, Constrained, ModelFolder
from ...link.token_table import TokenTable
from ..output.formats.grammar import before_form
from ..output.formats.table import OutputFormats, tool_format
from ..output.formats.tool_format import ReasoningFormat
from ..output.vocabulary_bytes import matches_as_text
from ..supervision.text_pool import TextPool
from .model_text import ModelText
from .offload import in_thread
from .tool_grammar import calls_form, demand_of

FIELD = "response_format"
_ANY_OBJECT = b'{"type":"object"}'
TAIL_TOKENS = 256  # of a prompt, in which its last marker of reasoning is looked for


class Forms:
    """Makes constraints of forms. Their grammars are made, and checked, in text processes."""

    def __init__(self, pool: TextPool) -> None:
        self._pool = pool

    async def constraint(
        self, params: GenerateParams, card: ModelCard, text: ModelText, prompt: list[int]
    ) -> tuple[Constraint, Vocabulary] | None:
        """The constraint of an answer to ``prompt``, and the vocabulary that an engine needs first; None without one.

        Raises InvalidParams naming the part of ``response_format`` or ``tools`` that no answer can be held to,
        UnsupportedParameter naming the parameter that asks for a form if the model can be held to none.
        """
        if params.form is None and demand_of(params) is None:
            return None
        field = FIELD if params.form is not None else "tool_choice" if params.tool_choice is not None else "tools"
        if because := card.lacks("response_format"):
            raise UnsupportedParameter(field, because)
        of_tokens = await in_thread(None, text.vocabulary_bytes)
        if of_tokens is None:
            raise UnsupportedParameter(field, "only the model's tokenizer can tell the bytes of its tokens")
        formats = formats_for(params, text)
        form = None if params.form is None else link_form(params.form)
        reasoning = await _reasoning(params, text, prompt)
        wanted, before = await in_thread(None, _asked, params, text.table, formats, form, reasoning)
        if wanted is None:
            return None
        grammar = await self._grammar(wanted, before)
        field = _field_of(wanted)
        return Constraint(grammar, _ends(text, formats), field=field), Vocabulary(params.model, *of_tokens)

    async def _grammar(self, form: AnswerForm, before: Before = NOTHING_BEFORE) -> str:
        field = _field_of(form)
        digest = sha256(msgspec.msgpack.encode((form, before))).hexdigest()
        folder = ModelFolder(field, f"{field}:{digest}")
        return (await self._pool.ask(lambda op: Constrain(op, folder, form, before), Constrained)).grammar


def _field_of(form: AnswerForm) -> str:
    """The parameter that a form's grammar is made of."""
    return "tools" if isinstance(form, CallsForm) else FIELD


def formats_for(params: GenerateParams, text: ModelText) -> OutputFormats:
    """How the model writes calls and reasoning; ``tool_format`` of the request is known."""
    named = None if params.tool_format is None else tool_format(params.tool_format)
    return OutputFormats(named or text.formats.tools, text.formats.reasoning)


def _asked(
    params: GenerateParams, table: TokenTable, formats: OutputFormats, form: Form | None, reasoning: Reasoning
) -> tuple[AnswerForm | None, Before]:
    """The form of the answer, and what may precede it."""
    id_of = cache(table.find)
    wanted = calls_form(params, formats.tools, id_of, form) or form

    def textless(string: str) -> int | None:
        token = id_of(string)
        return token if token in table.special and not matches_as_text(string) else None

    is_chat = params.messages is not None
    shown = formats if is_chat else formats._replace(tools=None)
    return wanted, before_form(shown, reasoning, id_of, textless)


def _ends(text: ModelText, formats: OutputFormats) -> list[int]:
    ends = (text.table.find(end) for end in (formats.tools.ends if formats.tools is not None else ()))
    return sorted({*text.eos_tokens, *(token for token in ends if token is not None)})


def link_form(form: wire.Form) -> Form:
    """``form`` as a text process is sent it."""
    match form:
        case wire.JsonSchemaFormat():
            schema = to_json(form.the_schema, inf_nan_mode="constants")
            return JsonForm(schema, [*form.place.split(".")], form.whitespace == "fixed")
        case wire.JsonObjectFormat():
            return JsonForm(_ANY_OBJECT, [FIELD], form.whitespace == "fixed")
        case wire.RegexFormat():
            return RegexForm(form.pattern)
        case wire.ChoiceFormat():
            return ChoiceForm(form.choices)
        case wire.GrammarFormat():
            return GrammarForm(form.syntax, form.grammar)
        case wire.TextFormat():
            raise ValueError("text has no form")


async def _reasoning(params: GenerateParams, text: ModelText, prompt: list[int]) -> Reasoning:
    """Whether reasoning comes before the form: the form begins behind its end."""
    if text.formats.reasoning is None:
        return "none"
    tail = await text.decode(prompt[-TAIL_TOKENS:])
    return reasoning_behind(tail, text.formats.reasoning, is_chat=params.messages is not None)


def reasoning_behind(tail: str, markers: ReasoningFormat, *, is_chat: bool) -> Reasoning:
    """Whether reasoning follows a prompt that ends with ``tail``.

    A chat's template opens it at the very end, or closes it there, or leaves it to the answer. Markers further back may
    be a message's own words. In other prompts the last marker counts.
    """
    begin, end = markers.begin.rstrip(), markers.end
    if not is_chat:
        return "open" if tail.rfind(begin) > tail.rfind(end) else "none"
    ending = tail.rstrip()
    if ending.endswith(begin):
        return "open"
    return "none" if ending.endswith(end) else "optional"
