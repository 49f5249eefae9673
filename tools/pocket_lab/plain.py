"""Text without a chat template: prompts that a newcomer tries, small programs, and the Python standard library."""

from __future__ import annotations

import sysconfig
from pathlib import Path
from random import Random

from . import tables
from .chat import Chat, Plain, exchange
from .facts import DAYS, MONTHS, fact, statement
from .talk import story_text
from .tasks import arithmetic, sum_lines
from .vary import expand, typed

FIM_PREFIX, FIM_SUFFIX, FIM_MIDDLE = "<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"
_DATA = tables.read("plain")
_CODE_REQUEST = "(write|show me|give me|make) a (|small |short |python )(function|program) (that|which) "


def opening(rng: Random) -> Plain:
    """A raw prompt that a newcomer might try first, and its short continuation."""
    kind = rng.random()
    if kind < 0.45:
        entry = rng.choice(_DATA["opening"])
        return Plain(entry["head"] + entry["tail"])
    if kind < 0.6:
        return Plain(rng.choice((statement(rng), statement(rng), statement(rng), _calendar_line(rng))))
    if kind < 0.75:
        return Plain(story_text(rng))
    question, answer = (fact if kind < 0.9 else arithmetic)(rng).messages
    return Plain(f"{question['content']} {answer['content']}")


def _calendar_line(rng: Random) -> str:
    names = rng.choice((DAYS, MONTHS))
    at = rng.randrange(len(names) - 1)
    return rng.choice((f"After {names[at]} comes {names[at + 1]}.", ", ".join(names) + "."))


def sums(rng: Random) -> Plain:
    """Lines of sums."""
    return Plain(sum_lines(rng))


def program(rng: Random) -> Plain:
    """A small program, whole, or with its middle asked for by the fill-in-the-middle tokens."""
    chosen = rng.sample(_DATA["program"], rng.choice((1, 1, 2)))
    body = "\n\n".join(entry["head"] + entry["tail"] for entry in chosen)
    return Plain(fill_in(body, rng) if rng.random() < 0.35 else body)


def code_chat(rng: Random) -> Chat:
    """A chat that asks for a small function."""
    entry = rng.choice([entry for entry in _DATA["program"] if "does" in entry])
    asked = typed(expand(_CODE_REQUEST + entry["does"], rng), rng)
    return Chat(exchange(asked, f"```python\n{entry['head']}{entry['tail']}```"))


def fill_in(text: str, rng: Random) -> str:
    """`text` in prefix-suffix-middle order; the middle is one or two whole lines."""
    lines = text.splitlines(keepends=True)
    at = rng.randrange(len(lines))
    until = min(len(lines), at + rng.choice((1, 1, 2)))
    prefix, middle, suffix = "".join(lines[:at]), "".join(lines[at:until]), "".join(lines[until:])
    indent = len(middle) - len(middle.lstrip(" "))
    return f"{FIM_PREFIX}{prefix}{middle[:indent]}{FIM_SUFFIX}{suffix}{FIM_MIDDLE}{middle[indent:]}"


def standard_library(held_out: bool = False) -> list[str]:
    """Sources of modules of this Python, cut at blank lines into pieces of 700 to 900 characters.

    `held_out` chooses the modules that training never sees.
    """
    root = Path(sysconfig.get_paths()["stdlib"])
    pieces: list[str] = []
    for name in _DATA["held_modules" if held_out else "modules"]:
        held = ""
        for block in (root / f"{name}.py").read_text("utf-8").split("\n\n"):
            if held and len(held) + len(block) > 700:
                pieces.append(held)
                held = ""
            held += block[:900] + "\n\n"
        pieces.append(held)
    return pieces
