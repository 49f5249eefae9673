"""Turns a grammar in GBNF, the syntax of llama.cpp, into Lark syntax by llguidance's own converter."""

from __future__ import annotations

import re

from .lark import PLACE
from .refusals import refusal

_PART = re.compile(
    r"""(?P<comment>\#[^\n]*)
    |(?P<text>"(?:\\.|[^"\\])*")
    |(?P<characters>\[(?:\\.|[^\]\\])*\])
    |(?P<token>!?<[^>\n]{0,64}>)
    |(?P<any>\.)
    |(?P<other>.)""",
    re.VERBOSE | re.DOTALL,
)
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|x([0-9a-fA-F]{2})|(.))", re.DOTALL)
_ANY = r"[^\x00]"  # the converter takes GBNF's dot for that of a regular expression, which is no line break


def lark_of(gbnf: str) -> str:
    """``gbnf`` in Lark syntax. Raises InvalidParams naming ``response_format.grammar`` for what is not understood."""
    from llguidance.gbnf_to_lark import GbnfToLarkError, gbnf_to_lark

    prepared = "".join(_prepared(found) for found in _PART.finditer(gbnf))
    try:
        return gbnf_to_lark(prepared).replace("%llguidance {}", "", 1)
    except RecursionError:
        raise refusal(PLACE, "its groups are nested too deep") from None
    except GbnfToLarkError as broken:
        raise refusal(PLACE, f"the GBNF is not understood: {broken}") from None
    except Exception as broken:  # its converter raises bare Exception for rules that are missing or there twice
        raise refusal(PLACE, f"the GBNF is not understood: {type(broken).__name__}: {broken}") from broken


def _prepared(found: re.Match[str]) -> str:
    part = found[0]
    if found.lastgroup == "token":
        raise refusal(PLACE, f"{part}: a grammar may not refer to special tokens, which are the model's own")
    if found.lastgroup == "any":
        return _ANY
    if found.lastgroup in ("text", "characters"):
        return _ESCAPE.sub(_written_out, part)
    return part


def _written_out(found: re.Match[str]) -> str:
    """An escape of a character by number as the character itself: the converter drops zeros of such numbers."""
    number = found[1] or found[2]
    if number is None:
        return found[0]
    code = int(number, 16)
    if not 0 < code <= 0x10FFFF or 0xD800 <= code < 0xE000:
        raise refusal(PLACE, f"{found[0]} is no character")
    if code < 0x80:
        return f"\\x{code:02x}"
    return chr(code)
