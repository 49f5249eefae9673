"""Compares two contracts, to find out whether a host of the last release can speak with this sidecar.

``python -m mlx_sidecar_protocol.compatibility [--released DIR] [--schemas DIR]`` prints the differences between the
schemas and the released ones. It ends with status 1 if one is breaking and the protocol version is the released one.

A definition that changes its name and nothing else is additive: no frame differs, though generated types do.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from .definitions import camel
from .schema_changes import Change, Comparison, Schema, Severity, Way

__all__ = ["Change", "Severity", "changes", "main"]

_BREAKING, _ADDITIVE, _EDITORIAL = Severity.BREAKING, Severity.ADDITIVE, Severity.EDITORIAL
# Unions of other definitions, whose members are compared one by one, and come and go with methods and errors.
_UNIONS = frozenset(
    ("AnyIncomingFrame", "AnyOutgoingFrame", "Request", "Notification", "ServerNotification", "Result", "RpcError")
)
_FRAMES: dict[str, Way] = {
    "Batch": "received",
    "BatchResponse": "sent",
    "SuccessResponse": "sent",
    "ErrorResponse": "sent",
}
_OF_A_BUNDLE = {"$id", "title", "description", "anyOf", "$defs"}  # the id names the version, compared elsewhere
# Breaking by the letter. The names of what is added had promised them before any host could have the released contract.
_PROMISED = {
    Change(f"{result}.finish_reason", "values: wider", Severity.BREAKING)
    for result in ("GenerateResult", "StreamSubscribeResult")
}
_METHOD = {"name", "direction", "kind", "params", "result", "errors", "since", "summary"}
_ERROR = {"code", "kind", "retryable", "error"}


def changes(old_bundle: Schema, new_bundle: Schema, old_index: Schema, new_index: Schema) -> list[Change]:
    """All differences of two contracts, the worst first; a difference that cannot be classified is breaking.

    A bundle is the content of ``mlx-sidecar.schema.json``, an index that of ``methods.json``.
    """
    found = list(_Contracts(old_bundle, new_bundle).compared(old_index, new_index))
    return sorted(dict.fromkeys(found), key=lambda change: (list(Severity).index(change.severity), change.place))


class _Contracts:
    def __init__(self, old_bundle: Schema, new_bundle: Schema) -> None:
        self._bundles = (old_bundle, new_bundle)
        self._old = _without_unions(old_bundle["$defs"])
        self._new = _without_unions(new_bundle["$defs"])
        self._seen: set[tuple[str, str]] = set()

    def compared(self, old: Schema, new: Schema) -> Iterator[Change]:
        yield from _rest("bundle", *self._bundles, known=_OF_A_BUNDLE)
        yield from _rest("index", old, new, known={"protocol_version", "methods", "errors"})
        yield from self._methods(_by(old["methods"], "name"), _by(new["methods"], "name"))
        yield from self._errors(_by(old["errors"], "kind"), _by(new["errors"], "kind"))
        for name, way in _FRAMES.items():
            yield from self._definitions(name, name, way)
        yield from self._unions()
        yield from self._unreached()

    def _methods(self, old: Schema, new: Schema) -> Iterator[Change]:
        for name in old.keys() - new.keys():
            yield Change(name, "is gone", _BREAKING)
        for name in new.keys() - old.keys():
            asks = new[name]["direction"] == "sidecar-to-host" and new[name]["kind"] == "request"
            yield Change(
                name, "is new", _BREAKING if asks else _ADDITIVE
            )  # a notification is ignored, a request is not
        for name in old.keys() & new.keys():
            yield from self._method(name, old[name], new[name])

    def _method(self, name: str, old: Schema, new: Schema) -> Iterator[Change]:
        yield from _rest(name, old, new, known=_METHOD)
        for member in ("direction", "kind"):
            if old[member] != new[member]:
                yield Change(name, f"{member} differs", _BREAKING)
        for member in ("since", "summary"):
            if old[member] != new[member]:
                yield Change(name, f"{member} differs", _EDITORIAL)
        way: Way = "received" if old["direction"] == "host-to-sidecar" else "sent"
        yield from self._definitions(_named(old["params"]), _named(new["params"]), way)
        yield from self._definitions(_frame(old), _frame(new), way)
        if (old["result"] is None) != (new["result"] is None):
            yield Change(name, "result differs", _BREAKING)
        elif old["result"] is not None:
            yield from self._definitions(_named(old["result"]), _named(new["result"]), "sent")
        yield from _answers(name, old["errors"], new["errors"])

    def _errors(self, old: Schema, new: Schema) -> Iterator[Change]:
        for kind in old.keys() - new.keys():
            yield Change(kind, "is gone", _BREAKING)
        for kind in new.keys() - old.keys():
            yield Change(kind, "is a new kind of error", _ADDITIVE)
        for kind in old.keys() & new.keys():
            yield from _rest(kind, old[kind], new[kind], known=_ERROR)
            for member in ("code", "retryable"):
                if old[kind][member] != new[kind][member]:
                    yield Change(kind, f"{member} was {old[kind][member]}, is {new[kind][member]}", _BREAKING)
            yield from self._definitions(_named(old[kind]["error"]), _named(new[kind]["error"]), "sent")

    def _definitions(self, old: str, new: str, way: Way) -> list[Change]:
        missing = [name for name, those in ((old, self._old), (new, self._new)) if name not in those]
        if missing:
            return [Change(name, "is not defined", _BREAKING) for name in missing]
        return Comparison(self._old, self._new, way, self._seen).definitions(old, new)

    def _unions(self) -> Iterator[Change]:
        """A union may lose and gain members, but must be one."""
        for name in sorted(_UNIONS):
            for bundle in self._bundles:
                union = bundle["$defs"].get(name)
                if union is None or union.keys() - {"title", "description", "anyOf"}:
                    yield Change(name, "is no union of definitions", _BREAKING)

    def _unreached(self) -> Iterator[Change]:
        """Definitions that no method, error or frame refers to, so that their direction is unknown."""
        was = {old for old, _ in self._seen}
        there = {new for _, new in self._seen}
        for name in self._old.keys() - was - _UNIONS:
            if json.dumps(self._new.get(name)) != json.dumps(self._old[name]):
                why = "is gone" if name not in self._new else "differs, and nothing tells who sends it"
                yield Change(name, why, _BREAKING)
        for name in self._new.keys() - there - self._old.keys():
            yield Change(name, "is a new definition", _ADDITIVE)


def _without_unions(definitions: Schema) -> Schema:
    """``definitions`` with unions emptied, because a frame that holds one may hold any of its members."""
    return {name: {"title": name} if name in _UNIONS else schema for name, schema in definitions.items()}


def _answers(name: str, old: list[Schema], new: list[Schema]) -> Iterator[Change]:
    """Differences in the errors of one method, all additive, because any method may answer any error."""
    before, after = ({(error["code"], error["kind"]) for error in errors} for errors in (old, new))
    for code, kind in sorted(after - before):
        yield Change(name, f"may be answered {kind} ({code})", _ADDITIVE)
    for code, kind in sorted(before - after):
        yield Change(name, f"is no longer answered {kind} ({code})", _ADDITIVE)


def _rest(place: str, old: Schema, new: Schema, known: set[str]) -> Iterator[Change]:
    """Differences in members that this module does not know."""
    for member in sorted((old.keys() | new.keys()) - known):
        if json.dumps(old.get(member)) != json.dumps(new.get(member)):
            yield Change(place, f"{member} differs, which is not understood here", _BREAKING)


def _frame(method: Schema) -> str:
    return camel(method["name"]) + ("Request" if method["kind"] == "request" else "Notification")


def _named(reference: Schema) -> str:
    return str(reference["$ref"]).rsplit("/", 1)[1]


def _by(entries: list[Schema], member: str) -> Schema:
    return {entry[member]: entry for entry in entries}


def _read(directory: Path) -> tuple[Schema, Schema]:
    names = ("mlx-sidecar.schema.json", "methods.json")
    bundle, index = (json.loads((directory / name).read_text(encoding="utf-8")) for name in names)
    return bundle, index


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m mlx_sidecar_protocol.compatibility", description="Compare the schemas with the released ones."
    )
    parser.add_argument("--released", type=Path, default=Path("schemas/released"), help="(default: schemas/released)")
    parser.add_argument("--schemas", type=Path, default=Path("schemas"), help="(default: schemas)")
    options = parser.parse_args(arguments)
    (old_bundle, old_index), (new_bundle, new_index) = _read(options.released), _read(options.schemas)
    found = changes(old_bundle, new_bundle, old_index, new_index)
    sys.stdout.writelines(f"{change}\n" for change in found)
    version = new_index["protocol_version"]
    breaks = any(change.severity is _BREAKING and change not in _PROMISED for change in found)
    if breaks and version == old_index["protocol_version"]:
        sys.stderr.write(f"hosts of the released contract would fail: version {version} must become {version + 1}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
