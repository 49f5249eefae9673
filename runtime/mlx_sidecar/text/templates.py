"""Renders chats by a model's own templates, with the same text as transformers.

Messages are first brought into the shape that the template reads (``message_shapes``). Parts that it leaves out all the
same are warned of (``left_out``). The text process bounds a template's time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from mlx_sidecar_protocol.errors import InvalidParams, UnsupportedParameter

from .left_out import RenderWarning, left_out
from .message_shapes import MessageShapes
from .probes import Message

if TYPE_CHECKING:
    from jinja2 import Template

# Sixteen times the text of a million tokens.
RENDERED_LIMIT_CHARACTERS = 64 * 1024 * 1024
SOURCE_LIMIT_CHARACTERS = 1024 * 1024

_SHAPES_LIMIT = 4  # sets of names of template_args with shapes kept; a host uses one or two
_REASON_LIMIT_CHARACTERS = 1000  # of a template's own error message

# Names under which hosts pass a model's reasoning. Templates read the first, or (gpt-oss) the second.
_REASONING = ("reasoning_content", "thinking", "reasoning")

_OURS = ("messages", "tools", "add_generation_prompt")

_DEFAULT, _TOOL_USE = "default", "tool_use"  # the templates that chats are rendered with

Tools = Sequence[Mapping[str, Any]]


class Rendered(NamedTuple):
    """A chat as text, and warnings about parts of it that the template left out."""

    text: str
    warnings: tuple[RenderWarning, ...] = ()


class ChatTemplates:
    """The named chat templates of one model. Each is compiled and probed once, by ``compile`` or at its first use."""

    def __init__(self, sources: Mapping[str, str], special_tokens: Mapping[str, str]) -> None:
        """``sources``: name → jinja2 text, at least one. ``special_tokens``: name → text, variables for templates."""
        self._sources = dict(sources)
        self._special_tokens = dict(special_tokens)
        self._used: dict[str, ChatTemplate] = {}

    def mentions(self, text: str) -> bool:
        """Whether ``text`` stands in one of the templates."""
        return any(text in source for source in self._sources.values())

    def compile(self) -> None:
        """Compile and probe what chats are rendered with. Raises UnsupportedParameter for a template that is broken."""
        for name in (_DEFAULT, _TOOL_USE):
            if name in self._sources:
                self._template(name).probe()

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Tools | None = None,
        add_generation_prompt: bool = True,
        template_args: Mapping[str, Any] | None = None,
    ) -> Rendered:
        """The chat as text, special tokens written out.

        ``template_args`` are variables for the template and win over special tokens; ``documents`` is one of them.

        Raises InvalidParams naming ``messages`` if the template refuses them or the text is too long, and naming
        ``template_args`` for a reserved name; UnsupportedParameter if no template fits or the template is broken.
        """
        if not messages:
            raise InvalidParams.field("messages", "at least one message is needed")
        name = _TOOL_USE if tools is not None and _TOOL_USE in self._sources else _DEFAULT
        return self._template(name).render(messages, tools, add_generation_prompt, template_args or {})

    def _template(self, name: str) -> ChatTemplate:
        if name not in self._sources:
            names = ", ".join(sorted(self._sources))
            raise UnsupportedParameter("messages", because=f"the model's chat templates ({names}) have no default")
        if name not in self._used:
            self._used[name] = ChatTemplate(self._sources[name], self._special_tokens)
        return self._used[name]


class ChatTemplate:
    """One compiled template, and the shapes of messages that it reads."""

    def __init__(self, source: str, special_tokens: Mapping[str, str]) -> None:
        """Raises UnsupportedParameter for a source that is broken or too long."""
        self._template = _compile(source)
        self._special_tokens = special_tokens
        self._shapes: dict[frozenset[str], MessageShapes] = {}

    def probe(self) -> None:
        """Find out which messages it reads where no variables are given: those of most chats."""
        self.shapes({}).probe()

    def shapes(self, template_args: Mapping[str, Any]) -> MessageShapes:
        """The shapes that the template reads, probed with these variables, which it may need to render at all."""
        names = frozenset(template_args)
        if names not in self._shapes:
            if len(self._shapes) >= _SHAPES_LIMIT:
                self._shapes.clear()
            self._shapes[names] = MessageShapes(
                partial(self.render_as_is, add_generation_prompt=False, template_args=template_args)
            )
        return self._shapes[names]

    def render(
        self,
        messages: Sequence[Message],
        tools: Tools | None,
        add_generation_prompt: bool,
        template_args: Mapping[str, Any],
    ) -> Rendered:
        """The text of ``messages`` after they were brought into shape."""
        shapes = self.shapes(_without_ours(template_args))
        shaped = [_with_reasoning(message) for message in shapes.shaped(messages)]
        render = partial(self.render_as_is, add_generation_prompt=add_generation_prompt, template_args=template_args)
        text = render(shaped, tools)
        return Rendered(text, (*left_out(text, render, shaped, tools), *shapes.unknown_roles(messages)))

    def render_as_is(
        self,
        messages: Sequence[Message],
        tools: Tools | None,
        add_generation_prompt: bool,
        template_args: Mapping[str, Any],
    ) -> str:
        """The text of ``messages`` exactly as they are. Raises InvalidParams naming ``messages``."""
        variables = {"documents": None, **self._special_tokens, **template_args, "messages": messages, "tools": tools}
        return _render(self._template, {**variables, "add_generation_prompt": add_generation_prompt})


def _compile(source: str) -> Template:
    from jinja2 import TemplateSyntaxError

    from .sandbox import environment

    if len(source) > SOURCE_LIMIT_CHARACTERS:
        because = f"the model's chat template has more than {SOURCE_LIMIT_CHARACTERS} characters"
        raise UnsupportedParameter("messages", because=because)
    try:
        return environment().from_string(source)
    except TemplateSyntaxError as broken:
        because = f"the model's chat template is broken in line {broken.lineno}: {_cut(broken.message)}"
        raise UnsupportedParameter("messages", because=because) from broken
    # Besides syntax errors: numbers of thousands of digits, deep nesting, and sizes that Python does not compile.
    except Exception as failed:
        because = f"the model's chat template cannot be compiled: {type(failed).__name__}: {_cut(str(failed))}"
        raise UnsupportedParameter("messages", because=because) from failed


def _cut(reason: str | None) -> str:
    return (reason or "")[:_REASON_LIMIT_CHARACTERS]


def _without_ours(template_args: Mapping[str, Any]) -> Mapping[str, Any]:
    for name in _OURS:
        if name in template_args:
            raise InvalidParams.field("template_args", f"{name!r} is a parameter of its own")
    return template_args


def _with_reasoning(message: Message) -> Message:
    """``message`` with its reasoning under the names that templates read."""
    reasoning = next((message[name] for name in _REASONING if message.get(name) is not None), None)
    if reasoning is None:
        return message
    return {"thinking": reasoning, **message, "reasoning_content": reasoning}


def _render(template: Template, variables: Mapping[str, Any]) -> str:
    from jinja2 import TemplateError

    try:
        # Not ``template.generate``, which rewrites tracebacks that are never shown.
        text = "".join(_bounded(template.root_render_func(template.new_context(dict(variables)))))
        text.encode()  # raises for a lone surrogate, which is no text
        return text
    except TemplateError as refused:
        message = _cut(refused.message) or type(refused).__name__
        raise InvalidParams.field("messages", message, "template_error") from refused
    # The template is foreign code, so an error of any type counts as its refusal.
    except Exception as failed:
        message = f"the model's chat template failed: {type(failed).__name__}: {_cut(str(failed))}"
        raise InvalidParams.field("messages", message, "template_error") from failed


def _bounded(chunks: Iterator[str]) -> Iterator[str]:
    size = 0
    for chunk in chunks:
        size += len(chunk)
        if size > RENDERED_LIMIT_CHARACTERS:
            raise ValueError(f"more than {RENDERED_LIMIT_CHARACTERS} characters")
        yield chunk
