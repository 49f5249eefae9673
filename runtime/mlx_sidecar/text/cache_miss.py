"""Explains a cache miss: the place where a prompt left the nearest cached one, the text there, and a likely reason."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from mlx_sidecar_protocol.generate_result import CacheExplanation, PromptPlace

from .provenance import Path, Region, regions
from .templates import Rendered

Because = Literal["uncacheable", "nothing_known", "all_known", "new_text", "date", "key_order", "changed_text"]

# Tokens shown before and behind the place, and tokens searched for the reason on each side.
_SHOWN_BEFORE, _SHOWN = 16, 24
_LOOKED_AT = 64

_MONTHS = (
    r"\b(?:Jan(?:uary)?|Feb(?:ruary)?|Mar(?:ch)?|Apr(?:il)?|May|June?|July?|Aug(?:ust)?|Sept?(?:ember)?|Oct(?:ober)?"
    r"|Nov(?:ember)?|Dec(?:ember)?)\b"
)
_DAYS = r"\b(?:Mon|Tues?|Wed(?:nes)?|Thu(?:rs)?|Fri|Sat(?:ur)?|Sun)(?:day)?\b"
_DATE = re.compile(
    rf"\d{{1,4}}[-/:]\d{{1,2}}(?:[-/.:T ]\d{{1,4}})*|\d{{1,2}}\.\d{{1,2}}\.(?:\d{{2,4}})?"
    rf"|{_MONTHS}\.?(?: \d{{1,4}}(?:,? \d{{4}})?)?|\d{{1,2}}\.? {_MONTHS}\.?(?: \d{{4}})?|{_DAYS}|\b(?:19|20)\d\d\b"
)
_KEY = re.compile(r'"([^"\\\s]{1,64})"\s*:')

_WORDS: dict[Because, str] = {
    "uncacheable": "Nothing of this model can be cached.",
    "nothing_known": "Nothing that begins like this prompt is known.",
    "all_known": "The whole prompt was known.",
    "new_text": "what was known ends there.",
    "date": "a date or a time differs.",
    "key_order": "JSON keys come in another order.",
    "changed_text": "the text differs.",
}


class Known(Protocol):
    """The nearest known prompt. Its first ``common`` tokens are the same; ``tokens`` begin at its token ``start``."""

    @property
    def common(self) -> int: ...
    @property
    def start(self) -> int: ...
    @property
    def tokens(self) -> list[int]: ...


class Decodes(Protocol):
    def decode(self, tokens: Sequence[int]) -> str: ...
    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] | None,
        add_generation_prompt: bool,
        template_args: Mapping[str, Any] | None,
    ) -> Rendered: ...


@dataclass(frozen=True)
class Given:
    """The host's prompt: its source, and the parts of a chat if the source is messages."""

    source: Literal["prompt", "messages", "tokens"]
    messages: Sequence[Mapping[str, Any]] = ()
    tools: Sequence[Mapping[str, Any]] | None = None
    template_args: Mapping[str, Any] | None = None


def explain(
    text: Decodes, given: Given, tokens: Sequence[int], known: Known | None, uncacheable: str
) -> CacheExplanation:
    """Explain why not all of ``tokens``, the tokens of ``given``, were cached. Blocks: a chat is rendered once more.

    ``uncacheable`` is the reason why nothing of the model can be cached, "" where it can.
    """
    common = 0 if known is None else min(known.common, len(tokens))
    if uncacheable or known is None or not common or common == len(tokens):
        because: Because = "uncacheable" if uncacheable else "all_known" if common else "nothing_known"
        return CacheExplanation(
            prompt_tokens=len(tokens), known_tokens=common, because=because, summary=_WORDS[because]
        )
    other = known.tokens[max(0, common - known.start) :]
    before = text.decode(tokens[max(0, common - _LOOKED_AT) : common])
    here, there = text.decode(tokens[common : common + _LOOKED_AT]), text.decode(other[:_LOOKED_AT])
    because = _because(before, here, there) if other else "new_text"
    # Two different tokens may begin with the same characters.
    where = _place(text, given, tokens, common, _same(here, there), ended=not other)
    return CacheExplanation(
        prompt_tokens=len(tokens),
        known_tokens=common,
        because=because,
        where=where,
        text_before=text.decode(tokens[max(0, common - _SHOWN_BEFORE) : common]),
        text_here=text.decode(tokens[common : common + _SHOWN]),
        text_known=text.decode(other[:_SHOWN]) if other else None,
        summary=f"The prompt left the nearest known one at token {common} of {len(tokens)}, in {_named(where)}: "
        + _WORDS[because],
    )


def _because(before: str, here: str, there: str) -> Because:
    at = len(before) + _same(here, there)
    if _dated(before + here, at) and _dated(before + there, at):
        return "date"
    ours, theirs = _KEY.findall(before + here), _KEY.findall(before + there)
    first = next((n for n, pair in enumerate(zip(ours, theirs, strict=False)) if pair[0] != pair[1]), None)
    if first is not None and (ours[first] in theirs[first:] and theirs[first] in ours[first:]):
        return "key_order"
    return "changed_text"


def _dated(text: str, at: int) -> bool:
    """Whether a date or a time stands at character ``at``, or ends right before it."""
    return any(match.start() <= at <= match.end() for match in _DATE.finditer(text, max(0, at - 40), at + 40))


def _place(
    text: Decodes, given: Given, tokens: Sequence[int], common: int, further: int, *, ended: bool
) -> PromptPlace:
    """The place in ``given`` of the character that is ``further`` characters behind the start of token ``common``."""
    if given.source != "messages":
        path: Path = ("prompt",) if given.source == "prompt" else ("tokens", common)
        return PromptPlace(field=given.source, path=list(path))
    rendered = text.decode(tokens)

    def render(messages: Any, tools: Any, template_args: Any) -> str:
        return text.render(messages, tools, True, template_args).text

    found = regions(rendered, render, given.messages, given.tools, given.template_args)
    path = _path(found, _same(text.decode(tokens[:common]), rendered) + further, ended=ended)
    if not path:
        return PromptPlace(field="template", path=[])
    field: Any = path[0]
    number = path[1] if field == "messages" and len(path) > 1 else None
    role = given.messages[number].get("role") if isinstance(number, int) else None
    return PromptPlace(field=field, path=list(path), message=number if isinstance(number, int) else None, role=role)


def _same(one: str, other: str) -> int:
    """The number of characters that both texts begin with."""
    return next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def _path(found: list[Region], at: int, *, ended: bool) -> Path:
    """The path of the field that character ``at`` belongs to.

    Between two fields it is the path that both share. Where a field ends at ``at``, it is that field's. If the known
    prompt ``ended`` there, it is the next field's.
    """
    within = [region for region in found if region.start <= at < region.stop]
    if within:
        return within[-1].path
    before = max((region for region in found if region.stop <= at), key=lambda region: region.stop, default=None)
    behind = min((region for region in found if region.start > at), key=lambda region: region.start, default=None)
    if ended:
        return () if behind is None else behind.path
    tools_begin = behind is not None and behind.path[0] == "tools" and (before is None or before.path[0] != "tools")
    if tools_begin:  # the known prompt had no tools here, or other ones
        return ("tools",)
    if before is not None and before.stop == at:
        return before.path
    if before is None or behind is None:
        return ()
    shared = next(
        (n for n, (a, b) in enumerate(zip(before.path, behind.path, strict=False)) if a != b),
        min(len(before.path), len(behind.path)),
    )
    return before.path[:shared]


def _named(place: PromptPlace) -> str:
    if not place.path:
        return "what the chat template adds"
    name = str(place.path[0]) + "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in place.path[1:])
    return f"{name} ({place.role})" if place.role else name
