"""Chat templates that do harm, by the limits that stop them: those of the text process, or our own."""

from __future__ import annotations

ENDLESS = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"

# Refused when they are compiled.
NOT_COMPILED = [
    "x" * (1024 * 1024 + 1),
    "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
    "{{ " + "1 + " * 20_000 + "1 }}",
    "{{ " + "9" * 10_000 + " }}",
    "{% for a in b %}" * 30 + "{% endfor %}" * 30,
]
