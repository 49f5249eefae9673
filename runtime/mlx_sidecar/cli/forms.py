"""The form that an answer must have, as options of the command line."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from .failures import USAGE, Refused
from .parser import Parser
from .standard_streams import text_of

_SYNTAXES = {".lark": "lark", ".gbnf": "gbnf"}


def add_form(parser: Parser) -> None:
    """Define the options, of which one may be given."""
    group = parser.add_argument_group(
        "form", "the answer has this form; the exit status is 1 if it is cut off in its middle"
    )
    one = group.add_mutually_exclusive_group()
    one.add_argument("--schema", type=Path, metavar="FILE", help="JSON under the JSON Schema in FILE")
    one.add_argument("--json-object", action="store_true", help="a JSON object of any members")
    one.add_argument("--regex", type=text_of, metavar="PATTERN", help="a match of this regular expression")
    one.add_argument(
        "--choice", type=text_of, action="append", metavar="TEXT", help="one of these; given several times"
    )
    one.add_argument("--grammar", type=Path, metavar="FILE", help="a text of the grammar in FILE.lark or FILE.gbnf")


def form(args: argparse.Namespace) -> dict[str, Any]:
    """Return ``response_format`` as the contract has it, if a form was given. Raises ``Refused`` for a file."""
    if args.schema is not None:
        return _named({"type": "json_schema", "schema": _json(args.schema)})
    if args.json_object:
        return _named({"type": "json_object"})
    if args.regex is not None:
        return _named({"type": "regex", "pattern": args.regex})
    if args.choice:
        return _named({"type": "choice", "choices": args.choice})
    if args.grammar is not None:
        syntax = _SYNTAXES.get(args.grammar.suffix)
        if syntax is None:
            raise Refused(f"--grammar {args.grammar}: the name ends neither in .lark nor in .gbnf", USAGE)
        return _named({"type": "grammar", "syntax": syntax, "grammar": _read("--grammar", args.grammar)})
    return {}


def _named(value: dict[str, Any]) -> dict[str, Any]:
    return {"response_format": value}


def _json(path: Path) -> Any:
    try:
        return json.loads(_read("--schema", path))
    except (ValueError, RecursionError) as broken:
        raise Refused(f"--schema {path}: it is no JSON: {broken}", USAGE) from None


def _read(option: str, path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as broken:
        reason = broken.strerror if isinstance(broken, OSError) else "it is not UTF-8"
        raise Refused(f"{option} {path}: {reason}", USAGE) from None
