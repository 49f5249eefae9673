"""Chat templates that do what no chat template should, and damage to templates that do."""

from __future__ import annotations

from random import Random

_DEEP = 5000

TEMPLATES = [
    "",
    "{{ messages }}",
    "{{ self }}{{ caller }}{{ loop }}{{ varargs }}",
    "{% for m in messages %}{{ m.content }}{% endfor %}",
    "{{ messages[0]['content'] | upper | reverse | list }}",
    "{{ undefined_thing.more }}",
    "{{ raise_exception('no') }}",
    "{{ raise_exception(messages) }}",
    "{{ raise_exception('x' * 1000000) }}",
    "{{ 1 / 0 }}",
    "{% macro f(n) %}{{ f(n) }}{% endmacro %}{{ f(1) }}",
    "{% macro f(n) %}{{ f(n + 1) ~ n }}{% endmacro %}{{ f(1) }}",
    "{% for m in messages recursive %}{{ loop(messages) }}{% endfor %}",
    "{% for i in range(10 ** 9) %}x{% endfor %}",
    "{% for i in range(100000) %}x{% endfor %}",
    "{{ range(10 ** 18) | list }}",
    "{{ range(99999) | list | length }}",
    "{{ 'x' * 10 ** 9 }}",
    "{{ 'x' * 10 ** 12 }}",
    "{{ ('x' * 10 ** 6) * 10 ** 6 }}",
    "{{ [0] * 10 ** 9 }}",
    "{% set ns = namespace(s='xx') %}{% for i in range(40) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}{{ ns.s }}",
    "{% set ns = namespace(s=['x']) %}{% for i in range(40) %}{% set ns.s = ns.s + ns.s %}{% endfor %}{{ ns.s }}",
    "{% set ns = namespace(d=[]) %}{% for i in range(9999) %}{% set ns.d = [ns.d] %}{% endfor %}{{ ns.d }}",
    "{% set ns = namespace(d=[]) %}{% for i in range(9999) %}{% set ns.d = [ns.d] %}{% endfor %}{{ ns.d | tojson }}",
    "{% set ns = namespace(d={}) %}{% for i in range(99999) %}{% set ns.d = {'a': ns.d} %}{% endfor %}ok",
    "{{ '%1000000000d' | format(1) }}",
    "{{ '{:>1000000000}'.format('x') }}",
    "{{ '{0.__class__.__mro__}'.format('x') }}",
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ messages.__class__ }}{{ cycler.__init__.__globals__ }}",
    "{{ lipsum(n=1000) }}",
    "{{ dict(messages=1, **{'a': 2}) }}",
    "{{ {'a': 1}.update }}{{ [].append(1) }}",
    "{{ namespace(__class__=1) }}",
    "{% include 'config.json' %}",
    "{% import '/etc/passwd' as p %}{{ p }}",
    "{% extends 'x' %}",
    "{% raw %}",
    "{% if %}{% endif %}",
    "{{ '" + "a" * 500_000 + "' }}",
    "{{ " + "(" * _DEEP + "1" + ")" * _DEEP + " }}",
    "{{ " + "[" * 150 + "1" + "]" * 150 + " }}",
    "{{ " + " + ".join(["1"] * _DEEP) + " }}",
    "{{ " + " ~ ".join(["'a'"] * 20_000) + " }}",
    "{{ x" + ".a" * _DEEP + " }}",
    "{{ 1" + " | string" * _DEEP + " }}",
    "{{ " + "9" * 10_000 + " }}",
    "{{ 2 ** 2 ** 20 }}",
    "{{ (10 ** 5000) | string }}",
    "{% if a %}" * 120 + "x" + "{% endif %}" * 120,
    "{% for a in [1, 2] %}" * 18 + "x" + "{% endfor %}" * 18,
    "{% set a = 1 %}" * 20_000,
    "{{ strftime_now('%' * 1000) }}",
    "{{ strftime_now('%Y' * 100000) }}",
    "{{ strftime_now('\x00\ud83d') }}",
    "{{ '\\ud800' }}{{ '\\udfff' }}",
    "{{ '\\x00\\ufeff\\u202e' * 100 }}",
    "{{ messages | map(attribute='content') | join | urlize }}",
    "{{ messages | tojson(indent=100000) }}",
    "{{ messages | tojson(indent=-1, separators=1) }}",
    "{{ messages | groupby('role') | list }}",
    "{{ messages | sort | unique | list }}",
    "{{ messages | batch(0) | list }}",
    "{{ messages | slice(0) | list }}",
    "{{ messages | batch(10 ** 9, 'x') | list }}",
    "{{ 'a b' | wordwrap(0) }}",
    "{{ 'a b' | truncate(-1) }}",
    "{{ 'a' | indent(10 ** 9) }}",
    "{{ 'a' | center(10 ** 9) }}",
    "{{ 'a'.ljust(10 ** 10) }}",
    "{{ 'a'.zfill(10 ** 10) }}",
    "{{ 'a' | replace('', 'x' * 1000000) }}",
    "{{ ('a' * 100000).replace('a', 'b' * 100000) }}",
    "{{ ('a' * 100000) | replace('a', 'b' * 100000) }}",
    "{{ ('a' * 10000).split('a') | join('b' * 1000000) }}",
    "{{ 'a'.translate({97: 'b' * 10 ** 9}) }}",
    "{{ ('\\t' * 100000).expandtabs(100000) }}",
    "{{ 'a'.encode('utf-16').decode('zip') }}",
    "{% generation %}{{ messages }}{% endgeneration %}",
    "{% generation %}",
    "{% break %}",
    "{% for m in messages %}{% continue %}{% endfor %}",
    "{% block a %}{{ super() }}{% endblock %}",
    "{% filter upper %}{{ messages }}{% endfilter %}",
    "{% trans %}a{% endtrans %}",
    "{% autoescape true %}{{ messages }}{% endautoescape %}",
    "{%- set messages = 5 -%}{{ messages }}",
    "{{ loop.__init__ }}{{ joiner() }}{{ cycler() }}",
]

# What runs for minutes unless somebody ends it: each costs some processor seconds, twice.
SLOW = [
    "{% set d=dict.fromkeys(range(0, 99999*2305843009213693951, 2305843009213693951)) %}ok",
    "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "{% macro f(n) %}{% if n %}{% set a = f(n - 1) %}{% set b = f(n - 1) %}{% endif %}{% endmacro %}{{ f(60) }}",
    "{{ 7 ** 7 ** 9 }}",
    "{{ (7 ** 700000) | string }}",
    "{{ (('http://a.' * 30000) ~ '(((' * 30000) | urlize }}",
    "{{ ('a' * 2000000) | wordwrap(1) | length }}",
    "{{ range(99999) | map('string') | sum(start='') }}",
    "{% set ns = namespace(l=[]) %}{% for i in range(99999) %}{% set ns.l = ns.l + [i] %}{% endfor %}",
    "{{ ('<' * 3000000) | striptags }}",
    "{{ (('a' * 50000 ~ 'b') * 20).find(('a' * 49999) ~ 'c') }}{% for i in range(99999) %}{{ 'x' if ('a' * 99999 ~ 'b') in ('a' * 999999) }}{% endfor %}",
]

_SCRAPS = ["{{", "}}", "{%", "%}", "{#", "#}", "{%-", "-%}", "| tojson", "~", "(", "]", "'", "endfor", "\x00", "\ufeff", "{{ loop }}"]
_SCRAPS += ["{% set messages = messages[1:] %}", "{% for x in messages %}", "{% endfor %}", "{{ messages }}", ".content" * 50]


def edited(pick: Random, template: str) -> str:
    """``template`` with one to four scraps put in, words taken out or lines moved."""
    for _ in range(pick.randint(1, 4)):
        at, upto = sorted(pick.randint(0, len(template)) for _ in range(2))
        upto = min(upto, at + pick.choice((0, 0, 1, 5, 60)))
        template = template[:at] + pick.choice(("", template[at:upto] * 2, *_SCRAPS)) + template[upto:]
    return template
