"""Writes ``schemas/``: ``python -m mlx_sidecar_protocol.schema [--check] [DIRECTORY]``.

``--check`` writes nothing and ends with status 1 if a file is not what the models say.
"""

from __future__ import annotations

import argparse
import difflib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from . import PROTOCOL_VERSION, __version__
from .definitions import envelope_definitions, error_definitions, message_definitions
from .error_data import DETAILS
from .openrpc import document
from .registry import METHODS, MethodSpec

_BUNDLE = "mlx-sidecar.schema.json"
_SHOWN_LINES = 20


def bundle() -> dict[str, Any]:
    """One JSON Schema whose ``$defs`` hold every message; as a whole it matches any frame of either direction."""
    definitions = {**message_definitions(), **error_definitions(), **envelope_definitions()}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:mlx-sidecar:schema:{PROTOCOL_VERSION}",
        "title": "AnyFrame",
        "description": f"Messages of mlx-sidecar, protocol version {PROTOCOL_VERSION}.",
        "anyOf": [{"$ref": "#/$defs/AnyIncomingFrame"}, {"$ref": "#/$defs/AnyOutgoingFrame"}],
        "$defs": dict(sorted(definitions.items())),
    }


def index() -> dict[str, Any]:
    """Methods and errors, with references into the bundle."""
    return {
        "protocol_version": PROTOCOL_VERSION,
        "methods": [_entry(spec) for spec in METHODS.values()],
        "errors": [
            {"code": error.code, "kind": error.kind, "retryable": error.retryable, "error": _ref(error.__name__)}
            for error in DETAILS
        ],
    }


def _entry(spec: MethodSpec) -> dict[str, Any]:
    return {
        "name": spec.name,
        "direction": spec.direction,
        "kind": spec.kind,
        "params": _ref(spec.params.__name__),
        "result": None if spec.result is None else _ref(spec.result.__name__),
        "errors": [{"code": error.code, "kind": error.kind} for error in spec.errors],
        "since": spec.since,
        "summary": spec.summary,
    }


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"{_BUNDLE}#/$defs/{name}"}


def files() -> dict[str, str]:
    """Name to text of every generated file, the same for the same models."""
    contents = {
        _BUNDLE: bundle(),
        "methods.json": index(),
        "openrpc.json": document(__version__),
    }
    return {name: json.dumps(content, indent=2, ensure_ascii=False) + "\n" for name, content in contents.items()}


def differences(directory: Path) -> list[str]:
    """The beginning of a diff for each file of ``directory`` that is not current."""
    found = []
    for name, wanted in files().items():
        path = directory / name
        have = path.read_text(encoding="utf-8") if path.exists() else ""
        if have != wanted:
            diff = difflib.unified_diff(have.splitlines(), wanted.splitlines(), f"{path}", f"{path} (models)", "", "")
            found.append("\n".join(line.rstrip() for line in list(diff)[:_SHOWN_LINES]))
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m mlx_sidecar_protocol.schema", description="Write the schemas.")
    parser.add_argument("directory", nargs="?", type=Path, default=Path("schemas"), help="where (default: schemas)")
    parser.add_argument("--check", action="store_true", help="write nothing; status 1 if a file is not current")
    options = parser.parse_args(arguments)
    if options.check:
        return _check(options.directory)
    options.directory.mkdir(parents=True, exist_ok=True)
    for name, text in files().items():
        (options.directory / name).write_text(text, encoding="utf-8")
    return 0


def _check(directory: Path) -> int:
    found = differences(directory)
    if not found:
        return 0
    advice = f"{directory} is not current: run `make schemas` and commit the result"
    sys.stderr.write("\n".join([*found, advice, ""]))
    return 1


if __name__ == "__main__":
    sys.exit(main())
