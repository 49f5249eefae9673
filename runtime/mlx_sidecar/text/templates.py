"""Chat templates: from messages and tools to the text a model was trained on, equal to transformers' rendering."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mlx_sidecar.text.budget import BRIEF, TEXT_LIMIT_CHARACTERS, WHOLE, Budget, OverBudget, TooLong, spending
from mlx_sidecar_protocol.errors import InvalidParams, UnsupportedParameter

if TYPE_CHECKING:
    from jinja2 import Template

RENDERED_LIMIT_CHARACTERS = TEXT_LIMIT_CHARACTERS
SOURCE_LIMIT_CHARACTERS = 1024 * 1024

_MESSAGE_LIMIT = 1000  # characters of what a template says in an error

# Names under which hosts pass what a model thought. Templates read the first, or (gpt-oss) the second.
_REASONING = ("reasoning_content", "thinking", "reasoning")

_OURS = ("messages", "tools", "add_generation_prompt")


class ChatTemplates:
    """The named chat templates of one model. Compiled when first used, once; safe to use from several threads."""

    def __init__(self, sources: Mapping[str, str], special_tokens: Mapping[str, str]) -> None:
        """``sources``: name → jinja2 text, at least one. ``special_tokens``: bos_token and the like, for templates."""
        self._sources = dict(sources)
        self._special_tokens = dict(special_tokens)
        self._compiled: dict[str, Template] = {}
        self._lock = threading.Lock()

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] | None = None,
        add_generation_prompt: bool = True,
        template_args: Mapping[str, Any] | None = None,
        *,
        brief: bool = False,
    ) -> str:
        """The chat as text, special tokens written out.

        ``template_args`` are variables for the template and win over special tokens; ``documents`` is one of them.
        ``brief``: a few milliseconds' worth of work at most.

        Raises InvalidParams naming ``messages`` for whatever the template objects to, and for one that runs or makes
        too much (``budget.WHOLE``), naming ``template_args`` for a name that is taken; UnsupportedParameter if no
        template fits or the template itself is broken; TooLong if ``brief`` is not enough: nothing is wrong then.
        """
        if not messages:
            raise InvalidParams.field("messages", "at least one message is needed")
        name = "tool_use" if tools is not None and "tool_use" in self._sources else "default"
        if brief and name not in self._compiled:
            raise TooLong("its template is not compiled yet")
        template = self._template(name)
        variables = {"documents": None, **self._special_tokens, **_without_ours(template_args or {})}
        variables |= {"messages": [_message(each) for each in messages], "tools": tools}
        budget = Budget(BRIEF, brief=True) if brief else Budget(WHOLE)
        return _render(template, {**variables, "add_generation_prompt": add_generation_prompt}, budget)

    def _template(self, name: str) -> Template:
        if name not in self._sources:
            names = ", ".join(sorted(self._sources))
            raise UnsupportedParameter("messages", because=f"the model's chat templates ({names}) have no default")
        with self._lock:
            if name not in self._compiled:
                self._compiled[name] = _compile(self._sources[name])
            return self._compiled[name]


def _compile(source: str) -> Template:
    from jinja2 import TemplateSyntaxError

    from mlx_sidecar.text.sandbox import environment

    if len(source) > SOURCE_LIMIT_CHARACTERS:
        because = f"the model's chat template has more than {SOURCE_LIMIT_CHARACTERS} characters"
        raise UnsupportedParameter("messages", because=because)
    try:
        with spending(Budget(WHOLE)):
            return environment().from_string(source)
    except TemplateSyntaxError as broken:
        because = f"the model's chat template is broken in line {broken.lineno}: {_cut(broken.message)}"
        raise UnsupportedParameter("messages", because=because) from broken
    # A number of thousands of digits, brackets in a thousand brackets, or more of anything than Python compiles.
    except (OverBudget, ValueError, SyntaxError, RecursionError, MemoryError, OverflowError) as failed:
        because = f"the model's chat template cannot be compiled: {type(failed).__name__}: {_cut(str(failed))}"
        raise UnsupportedParameter("messages", because=because) from failed


def _cut(message: str | None) -> str:
    return (message or "")[:_MESSAGE_LIMIT]


def _without_ours(template_args: Mapping[str, Any]) -> Mapping[str, Any]:
    for name in _OURS:
        if name in template_args:
            raise InvalidParams.field("template_args", f"{name!r} is a parameter of its own")
    return template_args


def _message(message: Mapping[str, Any]) -> dict[str, Any]:
    """One message as templates expect it: members that are null left out, reasoning under the names they read."""
    plain = {name: value for name, value in message.items() if value is not None}
    reasoning = next((plain[name] for name in _REASONING if name in plain), None)
    if reasoning is None:
        return plain
    return {"thinking": reasoning, **plain, "reasoning_content": reasoning}


def _render(template: Template, variables: Mapping[str, Any], budget: Budget) -> str:
    from jinja2 import TemplateError

    try:
        with spending(budget):
            # Not ``template.generate``, which rewrites tracebacks that nobody sees.
            return "".join(_bounded(template.root_render_func(template.new_context(dict(variables)))))
    except TemplateError as refused:
        message = _cut(refused.message) or type(refused).__name__
        raise InvalidParams.field("messages", message, "template_error") from refused
    except OverBudget as stopped:
        message = f"the model's chat template was stopped: {stopped}"
        raise InvalidParams.field("messages", message, "template_error") from stopped
    # The template is foreign code that met values it was not written for: these are what that raises.
    except (TypeError, ValueError, LookupError, ArithmeticError, AttributeError, RecursionError, MemoryError) as failed:
        message = f"the model's chat template failed: {type(failed).__name__}: {_cut(str(failed))}"
        raise InvalidParams.field("messages", message, "template_error") from failed


def _bounded(chunks: Iterator[str]) -> Iterator[str]:
    size = 0
    for chunk in chunks:
        size += len(chunk)
        if size > RENDERED_LIMIT_CHARACTERS:
            raise ValueError(f"more than {RENDERED_LIMIT_CHARACTERS} characters")
        yield chunk
