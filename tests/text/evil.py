"""Chat templates that do harm, by what stops them: the limits of the process that runs them, or those of ours."""

from __future__ import annotations

ENDLESS = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"

# One call of C whose time is quadratic: all keys have one hash.
COLLIDING = "{% set d = dict.fromkeys(range(0, 99999 * 2305843009213693951, 2305843009213693951)) %}ok"

# Stopped by the clock, and by nothing else before.
FOR_EVER = [
    ENDLESS,
    COLLIDING,
    "{% for a in range(99999) %}{% for b in range(99999) if false %}{% endfor %}{% endfor %}",
    "{% macro f(n) %}{% if n %}{{ f(n-1) }}{{ f(n-1) }}{% endif %}{% endmacro %}{{ f(60) }}",
    "{% macro m() %}{{ caller() }}{{ caller() }}{% endmacro %}"
    "{% macro f(n) %}{% if n %}{% call m() %}{{ f(n - 1) }}{% endcall %}{% endif %}{% endmacro %}{{ f(40) }}",
    "{% set y %}{% for a in range(99999) %}{% for b in range(99999) %}x{% endfor %}{% endfor %}{% endset %}",
    "{{ range(99999)|map('string')" + "|map('list')|map('join')" * 30 + "|list|length }}",
    "{{ range(99999)|select('in', [none] * 1000)|list }}",
    "{% set ns = namespace() %}{% set ns.a = ns %}{{ ([ns] * 99999)|rejectattr('" + "a." * 500 + "a')|list }}",
]

_DEEP = "{% set ns = namespace(x=range(99999)|list) %}{% for a in range(250) %}{% set ns.x = [ns.x] %}{% endfor %}"
_TWICE = "{%% set ns = namespace(x=%s) %%}{%% for a in range(99999) %%}{%% set ns.x = %s %%}{%% endfor %%}{{ ns.x }}"

# Stopped before they make what they would make.
TOO_MUCH = [
    # Doubling.
    _TWICE % ("'a'", "ns.x ~ ns.x"),
    _TWICE % ("'a'", "ns.x + ns.x"),
    _TWICE % ("[1]", "ns.x + ns.x"),
    _TWICE % ("[1]", "[ns.x, ns.x]"),
    _TWICE % ("[1]", "{1: ns.x, 2: ns.x}"),
    _TWICE % ("3", "ns.x * ns.x"),
    _TWICE % ("'a'", "ns.x|replace('a', 'aa')"),
    _TWICE % ("'<'", "ns.x|e|string"),
    _TWICE % ("'a' * 1000000", "ns.x + 'a'"),
    _TWICE % ("[]", "ns.x + ['a' * 1000000]"),
    _TWICE % ("[]", "ns.x + [a]"),
    # Nesting, which overflows stacks.
    "{% set ns = namespace(t=()) %}{% for a in range(99999) %}{% set ns.t = (ns.t,) %}{% endfor %}{{ {ns.t: 1} }}",
    _TWICE % ("'a'", "ns.x|map('upper')"),
    # At one stroke.
    "{{ 'x' * 10**9 }}",
    "{{ [1] * 1000000000 }}",
    "{{ ['x' * 1000000] * 1000000 == [] }}",
    "{{ 2 ** (2 ** 40) }}",
    '{{ "%1000000000d" % 1 }}',
    '{{ "%*d" % (1000000000, 1) }}',
    '{{ "%.1000000000f" % 1.0 }}',
    "{{ \"%(a(b))1000000000d\" % {'a(b)': 1} }}",
    '{{ "%1000000000d"|format(1) }}',
    '{{ "{:>1000000000}".format(1) }}',
    '{{ "{:{w}}".format(1, w=1000000000) }}',
    "{{ \"{a:>1000000000}\".format_map({'a': 1}) }}",
    "{{ ('{0}' * 5000).format('x' * 1000000) }}",
    "{{ messages.get(*('x' * 16000000)) }}",
    "{{ 'x'|replace(*('x' * 16000000)) }}",
    "{{ 'x' is sameas(*('x' * 16000000)) }}",
    "{{ 'x'|center(1000000000) }}",
    "{{ 'x'|center(width=1000000000) }}",
    "{{ 'x'.center(1000000000) }}",
    "{{ 'x'.zfill(1000000000) }}",
    "{{ '\\t'.expandtabs(tabsize=1000000000) }}",
    "{{ ('x\\n' * 100000)|indent(1000000) }}",
    "{{ ('x\\n' * 100000)|indent(width='y' * 1000000) }}",
    "{{ ('x' * 100000)|replace('x', 'y' * 100000) }}",
    "{{ ('x' * 100000).replace('', 'y' * 100000) }}",
    "{{ ('x' * 100000)|join('y' * 100000) }}",
    "{{ ('y' * 100000).join('x' * 100000) }}",
    "{{ ('y' * 100000).join(range(1000)|map('string')) }}",
    "{{ ('x' * 16000000)|list }}",
    "{{ ('x' * 16000000)|map('upper')|list }}",
    "{{ [1, 2, 3]|batch(1000000000, 'x')|list }}",
    "{{ [1, 2, 3]|slice(1000000000)|list }}",
    "{{ ([[1] * 1000] * 10000)|sum(start=[]) }}",
    "{{ messages|tojson(indent=1000000000) }}",
    _DEEP + "{{ ns.x|tojson(indent=8) }}",
    _DEEP + "{{ ns.x|tojson(indent=0) }}",
    "{{ messages|tojson(separators=('x' * 10000000, 'y')) }}",
    "{{ (1).to_bytes(1000000000, 'big') }}",
    "{{ ('a' * 1000000).translate({97: 'b' * 1000000}) }}",
    "{{ {}.fromkeys(range(99999), 'x' * 1000000) }}",
    "{{ dict.fromkeys(range(99999), 'x' * 1000000) }}",
    "{{ range(99999)|map('default', 'x')|map('center', 1000000)|list }}",
    "{% set x = ('x' * 8000000 ~ 'a', 'x' * 8000000 ~ 'b') %}{{ (x * 100000)|sort }}",
    "{{ 1.5|round(1000000000) }}",
    "{{ lipsum(1000000000) }}",
    "{{ strftime_now('%Y' * 8000000) }}",
    "{% set x = 'x' * 1000000 %}{% set y %}{% for a in range(99999) %}{{ x }}{% endfor %}{% endset %}",
    # Little that takes long.
    "{% set x = ('f' * 4000000)|int(base=16) %}{{ x // ('f' * 2000000)|int(base=16) }}",
    "{% set x = ('f' * 4000000)|int(base=16) %}{{ x % (x - 1) }}",
    "{% set x = ('f' * 4000000)|int(base=16) %}{{ x is divisibleby(x - 1) }}",
    "{% set x %}{% for a in range(20000) %}{{ '%c' % (a + 200) }}{% endfor %}{% endset %}{{ x.encode('punycode') }}",
    "{{ ('a' * 2000000 ~ '-' ~ 'a' * 100000).encode().decode('punycode') }}",
    "{{ ('é' * 16000000).encode('ascii', 'namereplace') }}",
    "{{ 'x'.encode(errors='namereplace', encoding='ascii') }}",
    "{{ ('a' * 8000000).rfind('b' + 'a' * 4000000) }}",
    "{{ ('a' * 8000000)|trim('b' * 4000000 + 'a') }}",
    "{{ ('a ' * 8000000).split() }}",
    "{{ ('<!---->' * 1000000)|striptags }}",
    "{{ ('a ' * 1000000)|wordwrap(1) }}",
]

# Refused when they are compiled.
NOT_COMPILED = [
    "x" * (1024 * 1024 + 1),
    "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
    "{{ " + "1 + " * 20_000 + "1 }}",
    "{{ " + "9" * 10_000 + " }}",
    "{% for a in b %}" * 30 + "{% endfor %}" * 30,
]
