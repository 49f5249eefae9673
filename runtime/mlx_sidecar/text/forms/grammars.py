"""Makes one grammar, in a syntax of llguidance, of the form that an answer must have."""

from __future__ import annotations

from typing import Any

from mlx_sidecar_protocol.errors import InvalidParams

from ...link.forms import (
    NOTHING_BEFORE,
    AnswerForm,
    Before,
    CallsForm,
    ChoiceForm,
    Form,
    GrammarForm,
    JsonForm,
    RegexForm,
)
from ...link.grammar_limits import LONGEST_GRAMMAR
from . import lark
from .gbnf import lark_of
from .lark_text import between_slashes, literal
from .refusals import refusal
from .rules import Rules
from .schemas import check_schema, parsed_schema, schema_grammar
from .tool_calls import answer_with_calls, behind
from .validation import SPECIAL_TOKEN, fault_of_grammar, multi

_FIELD = "response_format"


def grammar_of(form: AnswerForm, before: Before = NOTHING_BEFORE) -> str:
    """The grammar of an answer: ``form``, behind what may precede it.

    Raises InvalidParams naming the field, and the keyword and its path in a schema, for what cannot be kept to.
    """
    rules = Rules()
    if isinstance(form, CallsForm):
        instead = None if form.instead is None else rules.grammar(_core(form.instead))
        field, start = "tools", answer_with_calls(rules, form, before, instead)
    elif before == NOTHING_BEFORE:
        return _within_bounds(multi(_core(form)), _FIELD)
    else:
        field, start = _FIELD, behind(rules, before, rules.grammar(_core(form)))
    _checked(multi(*rules.grammars(start, checked=True)), [field])
    return _within_bounds(multi(*rules.grammars(start, checked=False)), field)


def _within_bounds(grammar: str, field: str) -> str:
    if len(grammar) > LONGEST_GRAMMAR:
        message = f"its grammar has {len(grammar)} characters, the limit is {LONGEST_GRAMMAR}"
        raise refusal([field], message, "too_long")
    return grammar


def _core(form: Form) -> dict[str, Any]:
    match form:
        case JsonForm():
            schema = parsed_schema(form.schema, form.place)
            check_schema(schema, form.place, fixed=form.fixed)
            return schema_grammar(schema, fixed=form.fixed)
        case RegexForm():
            return _regex(form.pattern)
        case ChoiceForm():
            choices = "\n | ".join(map(literal, form.choices))
            return _lark(f"start: CHOICE\nCHOICE: {choices}", [_FIELD, "choices"])
        case GrammarForm():
            text = lark_of(form.grammar) if form.syntax == "gbnf" else form.grammar
            return _lark(lark.checked_lark(text), list(lark.PLACE))


def _lark(grammar: str, place: list[str | int]) -> dict[str, Any]:
    core = {"lark_grammar": grammar}
    _checked(multi(core), place)
    return core


def _checked(grammar: str, place: list[str | int]) -> str:
    why = fault_of_grammar(grammar)
    if why is None:
        return grammar
    raise _refused(why, place)


def _refused(why: str, place: list[str | int]) -> InvalidParams:
    if why == SPECIAL_TOKEN:
        why = "a grammar may not refer to special tokens, which are the model's own"
    return refusal(place, why)


def _regex(pattern: str) -> dict[str, Any]:
    core = {"lark_grammar": f"start: {between_slashes(pattern)}"}
    if (why := fault_of_grammar(multi(core))) is not None:
        # The host wrote no grammar, so that places in ours mean nothing to it.
        reason = why.partition("\n   1 | ")[0].rpartition("regex parse error:")[2]
        raise _refused(reason, [_FIELD, "pattern"])
    return core
