"""Foreign templates end: by the clock, or before they make what nobody can hold. And real ones do not notice."""

from __future__ import annotations

import contextlib
import itertools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlx_sidecar.text import budget
from mlx_sidecar.text.budget import Budget, Limits, OverBudget, TooLong, spending
from mlx_sidecar.text.templates import ChatTemplates
from mlx_sidecar_protocol.errors import InvalidParams, UnsupportedParameter

from .evil import ENDLESS, FOR_EVER, NOT_COMPILED, TOO_MUCH

USER = {"role": "user", "content": "Hi <b> 'there'"}


def render(source: str, **arguments: Any) -> str:
    return ChatTemplates({"default": source}, {}).render([USER], template_args=arguments)


@pytest.fixture
def _short_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that goes on by a millisecond whenever it is read."""
    now = itertools.count()
    monkeypatch.setattr(budget, "monotonic", lambda: next(now) / 1000)


@pytest.mark.usefixtures("_short_time")
@pytest.mark.parametrize("source", FOR_EVER)
def test_a_template_that_does_not_end_is_stopped_by_the_clock(source: str) -> None:
    with pytest.raises(InvalidParams, match="stopped: more than 5 s") as refused:
        render(source)
    (fault,) = refused.value.data["errors"]
    assert (fault["loc"], fault["type"]) == (["messages"], "template_error")


@pytest.mark.parametrize("source", TOO_MUCH)
def test_what_nobody_can_hold_is_refused_before_it_is_made(source: str) -> None:
    with pytest.raises(InvalidParams, match="chat template was stopped") as refused:
        render(source)
    assert len(refused.value.message) < 1000
    assert "more than 5 s" not in refused.value.message


@pytest.mark.parametrize("source", NOT_COMPILED, ids=range(len(NOT_COMPILED)))
def test_what_cannot_be_compiled_is_refused_as_the_models_fault(source: str) -> None:
    with pytest.raises(UnsupportedParameter) as refused:
        render(source)
    assert len(refused.value.message) < 2000


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("{{ [1, 2]|sum }}{{ [[1], [2]]|sum(start=[]) }}{{ [{'a': 3}]|sum('a', 1) }}", "3[1, 2]4"),
        ("{{ [1, 'a', none]|join(', ') }}{{ messages|join('-', 'role') }}", "1, a, Noneuser"),
        ("{{ 'a' ~ 1 ~ none ~ nothing ~ [1] }}", "a1None[1]"),
        ("{{ '%5d|%-3s|%.2f|%d%%' % (7, 'x', 1, 5) }}{{ '%(a)s' % {'a': 1} }}", "    7|x  |1.00|5%1"),
        ("{{ '{:>4}|{a}|{0[0]}'.format('x', a=1) }}{{ '{a}'.format_map({'a': 2}) }}", "   x|1|x2"),
        ("{{ '<{}>'|e ~ ('<{}>'|safe).format('<') }}", "&lt;{}&gt;<&lt;>"),
        ("{{ 'abc'[1:] }}{{ [1, 2, 3][:-1] }}{{ (1, 2)[0:1] }}", "bc[1, 2](1,)"),
        ("{{ 'a b'.split() }}{{ ' x '.strip() }}{{ 'a-b'.replace('-', '+') }}", "['a', 'b']xa+b"),
        ("{{ 'x\ny'|indent(2) }}{{ 'x\ny'|indent(width='>', first=true) }}", "x\n  y>x\n>y"),
        (
            "{{ [3, 1, 2]|sort|list }}{{ 'ab'|list }}{{ [1, 2, 3]|batch(2, 0)|list }}",
            "[1, 2, 3]['a', 'b'][[1, 2], [3, 0]]",
        ),
        ("{{ [1, 2]|map('string')|list }}{{ [0, 1]|select|first }}", "['1', '2']1"),
        ("{{ 7 // 2 }}{{ 7.5 // 2 }}{{ 6 is divisibleby 4 }}{{ 7 / 2 }}", "33.0False3.5"),
        ("{{ 'é'.encode('UTF-8').decode() }}{{ 'é'.encode(errors='replace', encoding='ascii').decode() }}", "é?"),
        ("{{ '%s-%s'|format(*[1, 2]) }}{{ 'a-b'.split(*['-']) }}{{ 'abc'|replace(*'ab') }}", "1-2['a', 'b']bbc"),
        ("{{ 2 ** 10 }}{{ 7 % 4 }}{{ 3 * 'ab' }}{{ 7 - 2 }}{{ 2 ** -1 }}", "10243ababab50.5"),
        (
            "{% set s = namespace(n=0) %}{% for x in [3, 4] if x is odd %}{% set s.n = s.n + x %}{% endfor %}{{ s.n }}",
            "3",
        ),
        ("{% for x in [1, [2]] recursive %}{{ loop(x) if x is not number else x }}{% endfor %}", "12"),
        ("{{ {'a': messages[0]}.a.role }}{{ dict(a=1).get('a') }}{{ 1.25|round(1) }}", "user11.2"),
    ],
)
def test_what_templates_do_every_day_is_done(source: str, text: str) -> None:
    assert render(source) == text


def test_a_brief_rendering_of_a_template_in_use_gives_its_text() -> None:
    chat = ChatTemplates({"default": "{% for m in messages %}{{ m.role }}{% endfor %}"}, {})
    with pytest.raises(TooLong):
        chat.render([USER], brief=True)  # compiling is not brief
    assert chat.render([USER]) == "user"
    assert chat.render([USER], brief=True) == "user"


def test_a_brief_rendering_that_is_not_brief_says_so_and_nothing_is_wrong() -> None:
    chat = ChatTemplates({"default": "{% for a in range(20000) %}{% endfor %}done"}, {})
    assert chat.render([USER]) == "done"
    with pytest.raises(TooLong):
        chat.render([USER], brief=True)
    assert chat.render([USER]) == "done"


def test_ticks_alone_end_a_rendering_so_that_a_stopped_clock_does_no_harm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "monotonic", lambda: 0.0)
    chat = ChatTemplates({"default": "{% if messages[1] is defined %}" + ENDLESS + "{% endif %}"}, {})
    assert chat.render([USER], brief=False) == ""
    with pytest.raises(TooLong):
        chat.render([USER, USER], brief=True)


def test_a_budget_of_one_rendering_is_not_that_of_the_next() -> None:
    outer, inner = Budget(Limits(60, 10, 100)), Budget(Limits(60, 10, 100))
    with spending(outer):
        with spending(inner):
            assert budget.current() is inner
        assert budget.current() is outer
    with pytest.raises(RuntimeError, match="without a budget"):
        budget.current()


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner),
)


@given(json_values)
def test_what_is_printed_is_no_longer_than_a_few_times_what_it_weighs(value: Any) -> None:
    assert len(str(value)) <= 10 * Budget().weigh(value)


@given(json_values, st.integers(1, 60))
def test_whatever_doubles_is_refused_before_it_is_too_heavy(value: Any, times: int) -> None:
    spent = Budget()
    weight = spent.weigh(value)
    try:
        for _ in range(times):
            value = [value, value]
            assert spent.weigh(value) == 2 * weight + 8
            weight = 2 * weight + 8
    except OverBudget:
        assert 2 * weight + 8 > budget.TEXT_LIMIT_CHARACTERS
    assert weight <= budget.TEXT_LIMIT_CHARACTERS


# Templates that grow something by a little at each step, in loops in loops.
GROW = st.sampled_from(
    [
        "ns.x ~ ns.x",
        "ns.x + ns.x",
        "ns.x * 3",
        "[ns.x, ns.x]",
        "(ns.x, ns.x, 1)",
        "{1: ns.x, 'a': ns.x}",
        "ns.x|string",
        "ns.x|list",
        "ns.x|tojson",
        "ns.x|join('--')",
        "ns.x|replace('a', 'bab')",
        "ns.x|map('upper')|list",
        "ns.x|e",
        "ns.x|sum(start=ns.x)",
        "ns.x|batch(50, ns.x)|list",
        "'%s%s' % (ns.x, ns.x)",
        "'{0}{0}'.format(ns.x)",
        "ns.x|indent(9, true)",
        "ns.x|center(ns.x|length * 2)",
        "ns.x[1:] + ns.x",
        "dict(a=ns.x, b=ns.x).items()|list",
    ]
)


@settings(max_examples=60, deadline=None)
@given(
    start=st.sampled_from(["'a'", "[1]", "7", "messages", "('é',)"]),
    steps=st.lists(GROW, min_size=1, max_size=5),
    depth=st.integers(1, 3),
)
def test_loops_in_loops_that_grow_things_end_within_the_budget(start: str, steps: list[str], depth: int) -> None:
    body = "".join(f"{{% set ns.x = {step} %}}" for step in steps)
    source = f"{{% set ns = namespace(x={start}) %}}" + "{% for i in range(40) %}" * depth + body
    source += "{% endfor %}" * depth + "{{ ns.x }}"
    with contextlib.suppress(InvalidParams):
        assert len(render(source)) <= budget.TEXT_LIMIT_CHARACTERS
