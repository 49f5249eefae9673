"""The jinja2 environment that chat templates run in. Imports jinja2, so it is imported when the first chat is rendered.

Templates come with models and are somebody else's code: the sandbox keeps them from everything but the values they are
given, and counts what they do (``budget``). What they may call is what the Hugging Face stack gives them, since that is
what they were written against.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from functools import wraps
from types import BuiltinMethodType, MethodType
from typing import Any, NoReturn

from jinja2 import TemplateError, nodes, pass_environment
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, LoopControlExtension
from jinja2.filters import make_attrgetter
from jinja2.parser import Parser
from jinja2.runtime import Context, Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment, SandboxedEscapeFormatter, SandboxedFormatter
from jinja2.utils import Namespace, generate_lorem_ipsum
from markupsafe import Markup

from . import counting
from .budget import current
from .guards import filters, formats, methods, operators, values


class _Generation(Extension):
    """``{% generation %}`` marks what the assistant wrote, for training. Here it is its body, in a scope of its own."""

    tags = {"generation"}  # noqa: RUF012  # jinja2 declares it so

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_body"), [], [], body).set_lineno(line)

    def _body(self, caller: Macro) -> Any:
        return caller()


class _PlainNamespace(Namespace):
    """jinja2's ``namespace`` that refuses names with a leading underscore, which could reach into the interpreter."""

    def __init__(*args: Any, **kwargs: Any) -> None:  # a template may name an attribute "self"
        self, *rest = args
        for name in (attributes := dict(*rest, **kwargs)):
            _refuse_private(name)
        Namespace.__init__(self, attributes)

    def __setitem__(self, name: str, value: Any) -> None:
        _refuse_private(name)
        Namespace.__setitem__(self, name, value)

    def __repr__(self) -> str:  # one namespace can hold another, and itself: printing them all might not end
        return "<Namespace>"


def _refuse_private(name: object) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise SecurityError(f"a namespace may not hold {name!r}")


class _Dict:
    """``dict`` as templates may use it: to make one, and nothing else of the type."""

    def __call__(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        return values.weighed(dict(*args, **kwargs))

    def fromkeys(self, *args: Any) -> dict[Any, Any]:
        return values.weighed(dict.fromkeys(*args))


def _raise_exception(message: str) -> NoReturn:
    raise TemplateError(message)


def _strftime_now(pattern: str) -> str:
    methods.check_slow(pattern)
    return datetime.now().strftime(pattern)


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Plain JSON; jinja2's own filter escapes for HTML and sorts keys."""
    filters.check_json(value, indent, separators)
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


@pass_environment
def _join(environment: Any, value: Any, d: Any = "", attribute: str | int | None = None) -> str:
    return filters.joined(_parts(environment, value, attribute), d)


@pass_environment
def _sum(environment: Any, iterable: Any, attribute: str | int | None = None, start: Any = 0) -> Any:
    return filters.added(_parts(environment, iterable, attribute), start)


def _parts(environment: Any, items: Any, attribute: str | int | None) -> Any:
    return items if attribute is None else map(make_attrgetter(environment, attribute), items)


def _lipsum(n: int = 5, html: bool = True, min: int = 20, max: int = 100) -> str:  # noqa: A002  # jinja2's names
    current().items(n * max)
    return generate_lorem_ipsum(n, html, min, max)


class _Bounded(SandboxedFormatter):
    def format_field(self, value: Any, format_spec: str) -> Any:
        formats.check_format_spec(format_spec)
        return values.made(super().format_field(value, format_spec))


class _BoundedEscape(_Bounded, SandboxedEscapeFormatter):
    pass


class _Environment(ImmutableSandboxedEnvironment):
    """Counts what templates do. Whatever runs in it needs a budget (``budget.spending``)."""

    intercepted_binops = frozenset(operators.OPERATORS)

    def _generate(self, source: nodes.Template, *args: Any, **kwargs: Any) -> str:
        return super()._generate(counting.count(source, current()), *args, **kwargs)

    def getitem(self, obj: Any, argument: Any) -> Any:  # also for each part of an attribute that a filter looks up
        current().tick()
        return super().getitem(obj, argument)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        return operators.OPERATORS[operator](left, right)

    def call(self, context: Context, obj: Any, /, *args: Any, **kwargs: Any) -> Any:
        current().tick()
        name, owner = getattr(obj, "__name__", ""), getattr(obj, "__self__", None)
        methods.check_method(name, owner, args, kwargs)
        result = super().call(context, obj, *args, **kwargs)
        if name == "fromkeys":
            return values.weighed(result)
        return result if name == "get" else values.made(result)  # what a dict hands out was there before

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        if not isinstance(value, BuiltinMethodType | MethodType) or super().wrap_str_format(value) is None:
            return None
        template: Any = value.__self__
        escapes = isinstance(template, Markup)
        formatter = _BoundedEscape(self, escape=template.escape) if escapes else _Bounded(self)

        def formatted(*args: Any, **kwargs: Any) -> str:
            if value.__name__ == "format_map":
                (kwargs,), args = args, ()
            text: str = type(template)(formatter.vformat(template, args, kwargs))
            return text

        return formatted


def _counted(name: str, filter_: Callable[..., Any]) -> Callable[..., Any]:
    """``filter_`` that asks before and is charged after."""
    check = filters.FILTERS.get(name)
    passed = 1 if hasattr(filter_, "jinja_pass_arg") else 0
    hands_on = name in filters.HANDED_ON

    @wraps(filter_)
    def counted(*args: Any, **kwargs: Any) -> Any:
        current().tick()
        if check is not None:
            check(*args[passed:], **kwargs)
        result = filter_(*args, **kwargs)
        return result if hands_on else values.made(result)

    return counted


def _ticking(test: Callable[..., bool]) -> Callable[..., bool]:
    """``test`` that ticks: ``select`` and its like hand on only what passes."""

    @wraps(test)
    def ticking(*args: Any, **kwargs: Any) -> bool:
        current().tick()
        return test(*args, **kwargs)

    return ticking


def _weighing(filter_: Callable[..., Any]) -> Callable[..., Any]:
    """``map`` that gives no more in all than a list may hold: it can give one large thing for each small one."""

    @wraps(filter_)
    def weighing(*args: Any, **kwargs: Any) -> Any:
        return filters.weighing(filter_(*args, **kwargs))

    return weighing


def environment() -> ImmutableSandboxedEnvironment:
    """A fresh environment with all that chat templates expect. Compile and render in it under a budget."""
    made = _Environment(
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=[_Generation, LoopControlExtension],
        optimized=False,  # it would compute constant expressions while compiling, and the ticks are constant
        finalize=values.text,
    )
    made.filters |= {"tojson": _tojson, "join": _join, "sum": _sum, "string": values.text}
    made.filters["map"] = _weighing(made.filters["map"])
    made.filters = {name: _counted(name, filter_) for name, filter_ in made.filters.items()} | counting.FILTERS
    tests: dict[str, Any] = {**made.tests, "divisibleby": operators.divisible}
    made.tests = {name: _ticking(test) for name, test in tests.items()}
    made.globals.update(
        raise_exception=_raise_exception,
        strftime_now=_strftime_now,
        dict=_Dict(),
        namespace=_PlainNamespace,
        lipsum=_lipsum,
    )
    return made
