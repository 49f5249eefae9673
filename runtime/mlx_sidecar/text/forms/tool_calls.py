"""Rules of an answer that calls tools: reasoning, text, and blocks of calls, as far as each may come."""

from __future__ import annotations

from ...link.forms import Before, CallsForm, Harmony, Marker, Thought
from .arguments import call_of
from .lark_text import exactly, loosely, not_beginning_with, without
from .rules import NOTHING, Ref, Rules, text_of, without_lead

_GAP = "/[ \\n]{0,4}/"


def answer_with_calls(rules: Rules, form: CallsForm, before: Before, instead: Ref | None) -> Ref:
    """The whole answer. ``instead``: the form that it may have where it does not call."""
    if form.demand == "required":
        return _before_call(rules, before, _block(rules, form))
    if isinstance(before, Harmony):
        final = rules.sequence(before.final, rules.free(_unmarked(before)) if instead is None else instead)
        calls = [] if form.demand == "forbidden" else [_block(rules, form)]
        return rules.sequence(_messages(rules, before), rules.one_of([final, *calls]))
    if instead is not None:
        return behind(rules, before, rules.one_of([instead, _block(rules, form)]))
    # White space behind reasoning is text.
    return _behind_thought(rules, before, rules.one_of(_texts(rules, form, before)))


def behind(rules: Rules, before: Before, core: Ref) -> Ref:
    """``core`` behind what may precede it."""
    if isinstance(before, Harmony):
        return rules.sequence(_messages(rules, before), before.final, core)
    return _behind_thought(rules, before, rules.sequence(rules.terminal(_GAP), core), core)


def _before_call(rules: Rules, before: Before, calls: Ref) -> Ref:
    if isinstance(before, Harmony):
        return rules.sequence(_messages(rules, before), calls)
    return behind(rules, before, calls)


def _messages(rules: Rules, before: Harmony) -> Ref:
    text = rules.sequence(rules.up_to(before.end, _unmarked(before)), before.next)
    message = [rules.sequence(begin, text) for begin in (before.analysis, before.preamble)]
    return Ref(f"({rules.one_of(message)})*")


def _unmarked(before: Harmony) -> str:
    return without("|".join(map(exactly, before.marks)))


def _behind_thought(rules: Rules, thought: Thought, behind: Ref, alone: Ref | None = None) -> Ref:
    """Reasoning and ``behind``; ``alone``: what the answer is without reasoning."""
    match thought.reasoning:
        case "open":
            return rules.sequence(rules.up_to(thought.end), behind)
        case "optional":
            reasoning = rules.sequence(thought.begin, rules.up_to(thought.end))
            return rules.one_of([rules.sequence(reasoning, behind), alone or behind])
        case "none":
            return alone or behind


def _texts(rules: Rules, form: CallsForm, thought: Thought) -> list[Ref]:
    """Text alone; and where calls are offered, text with calls behind it."""
    shape = form.shape
    unless = [not_beginning_with(loosely(text_of(thought.begin)))] if thought.reasoning == "optional" else []
    if not shape.trigger:
        text = rules.free(*map(not_beginning_with, map(exactly, shape.lead)), *unless)
        return [text, rules.sequence(rules.terminal(_GAP), _block(rules, form))]
    text = rules.free(without(loosely(text_of(shape.trigger))), *unless)
    if form.demand == "forbidden":
        return [text]
    return [text, rules.sequence(rules.up_to(shape.trigger, *unless), _block(rules, form, begun=shape.trigger))]


def _block(rules: Rules, form: CallsForm, *, begun: Marker | None = None) -> Ref:
    """Calls, of which ``begun`` has been written."""
    shape, begin, first = form.shape, form.shape.begin, form.shape.open
    if begun:
        begin, first = (without_lead(begin, begun), first) if begin else (begin, without_lead(first, begun))
    tool = rules.one_of(call_of(rules, shape, tool) for tool in form.tools)
    more = Ref(f"({rules.sequence(shape.between, shape.open, tool)})*") if form.several else NOTHING
    return rules.rule(rules.sequence(begin, first, tool, more, shape.end))
