"""Finds the differences between two JSON Schemas, and their effect on hosts that were written by the older one.

Pure: ``Comparison`` walks two schemas side by side. The schema of a host's message may only become wider. That of a
sidecar's message may only become narrower, or gain members, which hosts ignore. Any other difference is breaking.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Literal

Schema = dict[str, Any]
Way = Literal["received", "sent"]  # as the sidecar sees it


class Severity(StrEnum):
    """The effect of a change: an older host may fail, need not know of it, or sees nothing of it on the wire."""

    BREAKING = "breaking"
    ADDITIVE = "additive"
    EDITORIAL = "editorial"


@dataclass(frozen=True)
class Change:
    """One difference, at a ``place`` such as ``GenerateParams.stop[]``: a definition and a path in it."""

    place: str
    what: str
    severity: Severity

    def __str__(self) -> str:
        return f"{self.severity:9} {self.place}: {self.what}"


_BREAKING, _ADDITIVE, _EDITORIAL = Severity.BREAKING, Severity.ADDITIVE, Severity.EDITORIAL
_ABSENT = object()
_WORDS = ("title", "description", "examples", "$comment", "deprecated")
_BEHAVIOUR = ("default",)
_LOWER = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties")
_UPPER = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties")
_RULES = ("pattern", "format", "multipleOf", "uniqueItems")
_OBJECT = ("properties", "required", "additionalProperties", "patternProperties")
_TYPES = frozenset({"string", "number", "integer", "boolean", "null", "array", "object"})
_KNOWN = {*_WORDS, *_BEHAVIOUR, *_LOWER, *_UPPER, *_RULES, *_OBJECT, "type", "const", "enum", "items", "anyOf", "$ref"}


@dataclass(frozen=True)
class Comparison:
    """Compares the definitions of two bundles in one direction; ``seen`` are the names of those compared."""

    old: Schema
    new: Schema
    way: Way
    seen: set[tuple[str, str]]
    _within: frozenset[tuple[str, str]] = frozenset()

    def definitions(self, old: str, new: str) -> list[Change]:
        """The differences of two definitions, and of all that they refer to."""
        return self._schemas({"$ref": f"#/$defs/{old}"}, {"$ref": f"#/$defs/{new}"}, "")

    def _schemas(self, old: Any, new: Any, place: str) -> list[Change]:
        names = (_name(old), _name(new))
        if names[0] is None or names[1] is None:
            return self._resolved(_schema(old, self.old), _schema(new, self.new), place)
        pair = (names[0], names[1])
        if pair in self._within:
            return []  # a recursive definition, which is being compared already
        self.seen.add(pair)
        inner = replace(self, _within=self._within | {pair})
        found = inner._resolved(_schema(old, self.old), _schema(new, self.new), pair[0])
        if pair[0] != pair[1]:
            found.append(Change(pair[0], f"is called {pair[1]} now: generated types change their name", _ADDITIVE))
        return found

    def _resolved(self, old: Schema, new: Schema, place: str) -> list[Change]:
        befores, afters = _alternatives(old, self.old), _alternatives(new, self.new)
        found = _worded(old, new, place)
        if len(befores) == len(afters) == 1 and not (_name(befores[0]) or _name(afters[0])):
            return [*found, *self._keywords(befores[0], afters[0], place)]
        return [*found, *self._alternatives(befores, afters, place)]

    # Alternatives.

    def _alternatives(self, befores: list[Any], afters: list[Any], place: str) -> list[Change]:
        """Compare each alternative that must be understood with the nearest one on the other side."""
        wanted, takers = (befores, afters) if self.way == "received" else (afters, befores)
        found: list[Change] = []
        used: set[int] = set()
        for one in wanted:
            attempts = [self._pair(one, taker, place) for taker in takers]
            # Alike ones come first, because their differences say more than that they do not fit.
            best = min(range(len(takers)), key=lambda at: _distance(attempts[at], _alike(one, takers[at])))
            changes = attempts[best]
            if _breaks(changes) and not _alike(one, takers[best]):
                changes = [Change(place, f"{_shown(one)} does not fit any more", _BREAKING)]
            found += changes
            used |= {best, *(at for at, attempt in enumerate(attempts) if not attempt)}
        word = "also takes" if self.way == "received" else "is no longer"
        idle = [taker for at, taker in enumerate(takers) if at not in used]
        return found + [Change(place, f"{word} {_shown(taker)}", _ADDITIVE) for taker in idle]

    def _pair(self, wanted: Any, taker: Any, place: str) -> list[Change]:
        return self._schemas(wanted, taker, place) if self.way == "received" else self._schemas(taker, wanted, place)

    # Keywords.

    def _keywords(self, old: Schema, new: Schema, place: str) -> Iterator[Change]:
        for keyword in sorted((old.keys() | new.keys()) - _KNOWN):
            if not self._identical(old.get(keyword, _ABSENT), new.get(keyword, _ABSENT)):
                yield Change(place, f"{keyword} differs, which is not understood here", _BREAKING)
        yield from self._types(old, new, place)
        yield from self._values(old, new, place)
        yield from self._bounds(old, new, place)
        if "items" in old or "items" in new:
            yield from self._schemas(old.get("items", True), new.get("items", True), f"{place}[]")
        if any(keyword in schema for schema in (old, new) for keyword in _OBJECT):
            yield from self._objects(old, new, place)

    def _types(self, old: Schema, new: Schema, place: str) -> Iterator[Change]:
        before, after = _types(old), _types(new)
        if before != after:
            yield self._effect(place, "type", narrower=after <= before, wider=after >= before)

    def _values(self, old: Schema, new: Schema, place: str) -> Iterator[Change]:
        before, after = _values(old), _values(new)
        if before != after:
            narrower = before is None or (after is not None and after <= before)
            wider = after is None or (before is not None and after >= before)
            yield self._effect(place, "values", narrower=narrower, wider=wider)

    def _bounds(self, old: Schema, new: Schema, place: str) -> Iterator[Change]:
        for keyword in (*_LOWER, *_UPPER, *_RULES):
            before, after = old.get(keyword), new.get(keyword)
            if before == after:
                continue
            if before is None or after is None or keyword in _RULES:
                yield self._effect(place, keyword, narrower=before is None, wider=after is None)
            else:
                narrower = (after > before) == (keyword in _LOWER)
                yield self._effect(place, keyword, narrower=narrower, wider=not narrower)

    def _effect(self, place: str, what: str, *, narrower: bool, wider: bool) -> Change:
        good = wider if self.way == "received" else narrower
        word = "narrower" if narrower else "wider" if wider else "another"
        return Change(place, f"{what}: {word}", _ADDITIVE if good else _BREAKING)

    # Objects.

    def _objects(self, old: Schema, new: Schema, place: str) -> Iterator[Change]:
        before, after = old.get("properties", {}), new.get("properties", {})
        for name in before:
            if name in after:
                yield from self._schemas(before[name], after[name], f"{place}.{name}")
            else:
                yield Change(f"{place}.{name}", "is gone", _BREAKING)
        for name in after.keys() - before.keys():
            yield self._new_property(old, new, name, f"{place}.{name}")
        yield from self._required(old, new, place)
        yield from self._others(old.get("additionalProperties", True), new.get("additionalProperties", True), place)
        if not self._identical(old.get("patternProperties", {}), new.get("patternProperties", {})):
            yield Change(place, "patternProperties differ", _BREAKING)

    def _new_property(self, old: Schema, new: Schema, name: str, place: str) -> Change:
        """The effect of a new member; breaking if other members had a schema that it narrows or replaces."""
        others = old.get("additionalProperties", True)
        if self.way == "received":
            free = others is False and "patternProperties" not in old and name not in new.get("required", ())
        else:
            free = isinstance(others, bool) and "patternProperties" not in old
        return Change(place, "is new", _ADDITIVE if free else _BREAKING)

    def _required(self, old: Schema, new: Schema, place: str) -> Iterator[Change]:
        before, after = set(old.get("required", ())), set(new.get("required", ()))
        old_names, new_names = old.get("properties", {}).keys(), new.get("properties", {}).keys()
        for name in sorted(after - before):
            if self.way == "received" or name not in new_names - old_names:
                yield self._effect(f"{place}.{name}", "must be there", narrower=True, wider=False)
        for name in sorted(before - after):
            if name not in old_names - new_names:
                yield self._effect(f"{place}.{name}", "need not be there", narrower=False, wider=True)

    def _others(self, before: Any, after: Any, place: str) -> Iterator[Change]:
        """The differences in members that have no name of their own."""
        if isinstance(before, dict) and isinstance(after, dict):
            yield from self._schemas(before, after, f"{place}{{}}")
        elif before != after:
            mapped = isinstance(before, dict) and (self.way == "sent" or after is False)
            narrower = before is True or (before is not False and after is False)
            good = not mapped and (self.way == "sent" or not narrower)
            word = "narrower" if narrower else "wider"
            yield Change(place, f"other members: {word}", _ADDITIVE if good else _BREAKING)

    def _identical(self, old: Any, new: Any, within: frozenset[str] = frozenset()) -> bool:
        """Whether two values are the same with all references followed."""
        if isinstance(old, dict) and isinstance(new, dict):
            if (name := _name(old)) is not None and name == _name(new):
                if name in within:
                    return True
                within |= {name}
                if not self._identical(self.old.get(name), self.new.get(name), within):
                    return False
            return old.keys() == new.keys() and all(self._identical(old[key], new[key], within) for key in old)
        if isinstance(old, list) and isinstance(new, list):
            pairs = zip(old, new, strict=False)
            return len(old) == len(new) and all(self._identical(one, other, within) for one, other in pairs)
        return type(old) is type(new) and old == new


def _name(schema: Any) -> str | None:
    """The definition that a bare reference names."""
    if not isinstance(schema, dict) or "$ref" not in schema or schema.keys() - {"$ref", *_WORDS, *_BEHAVIOUR}:
        return None
    return str(schema["$ref"]).removeprefix("#/$defs/")


def _schema(value: Any, definitions: Schema) -> Schema:
    """The keywords of ``value``, with its reference replaced by the keywords of its target."""
    if isinstance(value, bool):
        return {} if value else {"not": {}}
    beside = dict(value)
    if "$ref" not in beside:
        return beside
    name = str(beside.pop("$ref")).removeprefix("#/$defs/")
    if name not in definitions:
        raise ValueError(f"no definition {name}")
    return _both(_schema(definitions[name], definitions), beside)


def _both(one: Schema, other: Schema) -> Schema:
    """A schema that demands both: their keywords side by side, or ``allOf`` where keywords depend on each other."""
    clash = (one.keys() & other.keys()) - {*_WORDS, *_BEHAVIOUR}
    members = one.keys() & set(_OBJECT) and other.keys() & set(_OBJECT)
    return {"allOf": [one, other]} if clash or members else {**one, **other}


def _alternatives(schema: Schema, definitions: Schema) -> list[Any]:
    """The alternatives of a schema, each without descriptions; the schema itself if it has no ``anyOf``."""
    rules = {key: value for key, value in schema.items() if key not in (*_WORDS, *_BEHAVIOUR)}
    choices = rules.pop("anyOf", None)
    if choices is None:
        return [rules]
    if rules:
        choices = [_both(_schema(choice, definitions), rules) for choice in choices]
    return [one for choice in choices for one in _flat(choice, definitions)]


def _flat(choice: Any, definitions: Schema) -> list[Any]:
    """Alternatives with nested ones flattened."""
    return _alternatives(choice, definitions) if isinstance(choice, dict) and "anyOf" in choice else [choice]


def _worded(old: Schema, new: Schema, place: str) -> Iterator[Change]:
    for keyword in (*_WORDS, *_BEHAVIOUR):
        if not _equal(old.get(keyword, _ABSENT), new.get(keyword, _ABSENT)):
            yield Change(place, f"{keyword} differs", _BREAKING if keyword in _BEHAVIOUR else _EDITORIAL)


def _types(schema: Schema) -> frozenset[str]:
    types = schema.get("type", _TYPES)
    names = {types} if isinstance(types, str) else set(types)
    return frozenset(names | ({"integer"} if "number" in names else set()))


def _values(schema: Schema) -> frozenset[str] | None:
    """The only values that a schema allows, as JSON; None if it lists none."""
    lists = [[schema["const"]]] if "const" in schema else []
    lists += [schema["enum"]] if "enum" in schema else []
    sets = [frozenset(json.dumps(value, sort_keys=True) for value in values) for values in lists]
    return frozenset.intersection(*sets) if sets else None


def _equal(one: Any, other: Any) -> bool:
    """Whether two values are equal as JSON, where true is not 1."""
    return one is other or (_ABSENT not in (one, other) and json.dumps(one) == json.dumps(other))


def _breaks(changes: list[Change]) -> bool:
    return any(change.severity is _BREAKING for change in changes)


def _distance(changes: list[Change], alike: bool) -> tuple[bool, bool, int]:
    return _breaks(changes), not alike, len(changes)


def _alike(one: Any, other: Any) -> bool:
    """Whether two alternatives have the same name, or the same type."""
    if not (isinstance(one, dict) and isinstance(other, dict)):
        return False
    return _name(one) == _name(other) and one.get("type") == other.get("type")


def _shown(schema: Any) -> str:
    return _name(schema) or json.dumps(schema)[:80]
