"""Values as models write them that do not write JSON: literals of Python, or objects with bare keys."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NoReturn

from ...link.forms import Marker, Path
from .keywords import ENFORCED
from .lark_text import between_slashes, literal
from .plain_strings import patterns, string_up_to, strings_of
from .refusals import refusal
from .rules import Ref, Rules
from .schemas import schema_grammar

TYPES = ("string", "integer", "number", "boolean", "null", "array", "object")
_NUMERIC = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")
_KEYWORDS = {
    "string": {"minLength", "maxLength", "pattern", "format"},
    "integer": set(_NUMERIC),
    "number": set(_NUMERIC),
    "array": {"items", "minItems", "maxItems"},
    "object": {"properties", "required", "additionalProperties"},
}
_ALONE = ("$ref", "anyOf", "oneOf")
_UNSUPPORTED = {"patternProperties", "minProperties", "maxProperties", "prefixItems", "additionalItems", "allOf"}
_KEY = re.compile(r"[\w.-]+")
# Escapes that mean the same in JSON and in Python.
_STRING_CHARACTER = r"""([^"\\\x00-\x1f]|\\["\\nrt])"""
_PLAIN = r"""[^"\\\x00-\x1f]*"""


class Literals:
    """Rules of values; the words of a kind of literals are its subclass's."""

    true, false, null = "true", "false", "null"
    comma, colon = ",", ":"

    def __init__(self, rules: Rules, root: dict[str, Any], place: Path) -> None:
        """``root``: the schema in which references are looked up; it stands at ``place``."""
        self.rules = rules
        self._root = root
        self._place = place
        self._defined: dict[str, Ref] = {}

    def value(self, schema: Any, path: Path) -> Ref:
        """A value under ``schema``, which stands at ``path`` within the root.

        Raises InvalidParams for keywords that these rules have nothing for.
        """
        if not isinstance(schema, dict):
            return self.anything() if schema else self._refuse(path, "nothing is valid")
        self._check(schema, path)
        if "$ref" in schema:
            return self._definition(schema["$ref"], [*path, "$ref"])
        if "const" in schema or "enum" in schema:
            return self._one_of(schema, path)
        for keyword in ("anyOf", "oneOf"):
            if keyword in schema:
                choices = enumerate(schema[keyword])
                return self.rules.one_of(self.value(each, [*path, keyword, at]) for at, each in choices)
        types = types_of(schema)
        if types is None:
            return self.anything()
        return self.rules.one_of(self._of_type(type_, schema, path) for type_ in types)

    def members(self, schema: dict[str, Any], path: Path, key: Callable[[str, Path], Ref]) -> Ref:
        """The members of an object in the order of its schema; ``key`` writes a name with what follows it."""
        properties = schema.get("properties", {})
        required = schema.get("required", [])
        rest = schema.get("additionalProperties", True)
        named = {name: (each, [*path, "properties", name]) for name, each in properties.items()}
        named |= {name: (rest, [*path, "required"]) for name in required if name not in properties}
        items = [
            (self.rules.sequence(key(name, at), self.value(each, at)), name in required)
            for name, (each, at) in named.items()
        ]
        return self.rules.in_order(items, self.separator)

    def anything(self) -> Ref:
        """Any value."""
        if "" not in self._defined:
            name = self._defined[""] = self.rules.named_rule()
            choices = [self._of_type(type_, {}, []) for type_ in TYPES if type_ != "integer"]
            self.rules.define(name, " | ".join(choices))
        return self._defined[""]

    @property
    def separator(self) -> Ref:
        """The text between two members or items."""
        return self.rules.sequence(self.comma)

    def key(self, name: str, path: Path) -> Ref:
        """The key of a member, and what stands between it and its value."""
        raise NotImplementedError

    def any_key(self) -> Ref:
        """Any key, and what stands between it and its value."""
        raise NotImplementedError

    def string(self, schema: dict[str, Any], path: Path) -> Ref:
        """A string under ``schema``."""
        raise NotImplementedError

    def _of_type(self, type_: str, schema: dict[str, Any], path: Path) -> Ref:
        match type_:
            case "string":
                return self.string(schema, path)
            case "integer" | "number":
                held_to = {name: schema[name] for name in _NUMERIC if name in schema}
                return self.rules.grammar(schema_grammar({"type": type_, **held_to}, fixed=True))
            case "boolean":
                return self.rules.one_of(map(literal, (self.true, self.false)))
            case "null":
                return Ref(literal(self.null))
            case "array":
                return self._array(schema, path)
            case _:
                return self._object(schema, path)

    def _array(self, schema: dict[str, Any], path: Path) -> Ref:
        least, most = int(schema.get("minItems", 0)), schema.get("maxItems")
        if most == 0:
            return self.rules.sequence("[]")
        item = self.value(schema.get("items", True), [*path, "items"])
        more = Ref(f"({self.separator} {item}){{{max(0, least - 1)},{'' if most is None else int(most) - 1}}}")
        filled = self.rules.sequence("[", item, more, "]")
        return filled if least else self.rules.one_of([self.rules.sequence("[]"), filled])

    def _object(self, schema: dict[str, Any], path: Path) -> Ref:
        if schema.get("properties") or schema.get("required"):
            return self.rules.sequence("{", self.members(schema, path, self.key), "}")
        empty = self.rules.sequence("{}")
        rest = schema.get("additionalProperties", True)
        if rest is False:
            return empty
        member = self.rules.sequence(self.any_key(), self.value(rest, [*path, "additionalProperties"]))
        return self.rules.one_of([empty, self.rules.sequence("{", self.rules.list_of(member, self.separator), "}")])

    def _one_of(self, schema: dict[str, Any], path: Path) -> Ref:
        types = types_of({"type": schema["type"]}) if "type" in schema else None
        values = [schema["const"]] if "const" in schema else schema["enum"]
        fitting = [value for value in values if types is None or _type_of(value) & set(types)]
        strings = strings_of({"enum": [value for value in fitting if isinstance(value, str)]})
        written = [self._written(value, path) for value in fitting if not isinstance(value, str)]
        if strings:
            held_to = {name: schema[name] for name in _KEYWORDS["string"] if name in schema}
            written.append(self.string({"enum": strings, **held_to}, path))
        return self.rules.one_of(written) if written else self._refuse(path, "nothing is valid")

    def _written(self, value: Any, path: Path) -> Ref:
        """One value as it is."""
        if isinstance(value, bool) or value is None:
            return self.rules.sequence({True: self.true, False: self.false, None: self.null}[value])
        if isinstance(value, int | float):
            return self.rules.sequence(repr(value))
        if isinstance(value, str):
            return self.string({"const": value}, path)
        if isinstance(value, list):
            inner = [self._written(each, path) for each in value]
            return self.rules.sequence("[", Ref(f" {self.separator} ".join(inner)), "]")
        members = [self.rules.sequence(self.key(name, path), self._written(each, path)) for name, each in value.items()]
        return self.rules.sequence("{", Ref(f" {self.separator} ".join(members)), "}")

    def _definition(self, reference: str, path: Path) -> Ref:
        if reference not in self._defined:
            kind, _, name = reference.removeprefix("#/").partition("/")
            found = self._root.get(kind, {}).get(name) if kind in ("$defs", "definitions") else None
            if found is None:
                self._refuse(path, "for models of this format it must lead into $defs or definitions of the schema")
            rule = self._defined[reference] = self.rules.named_rule()
            self.rules.define(rule, self.value(found, [kind, name]))
        return self._defined[reference]

    def _check(self, schema: dict[str, Any], path: Path) -> None:
        """Refuse the keywords that these rules have nothing for."""
        for keyword in schema:
            if keyword in _UNSUPPORTED:
                self._refuse([*path, keyword], f"the keyword {keyword} is not supported for models of this format")
        for keyword in _ALONE:
            if keyword in schema and (others := (ENFORCED & schema.keys()) - {keyword}):
                self._refuse([*path, keyword], f"models of this format are not held to it beside {sorted(others)[0]}")

    def _refuse(self, path: Path, why: str) -> NoReturn:
        raise refusal([*self._place, *path], why)


class PythonLiterals(Literals):
    """Literals of Python, their strings between double quotes."""

    true, false, null = "True", "False", "None"
    comma, colon = ", ", ": "

    def keyword(self, name: str, path: Path) -> Ref:
        """The name of a keyword argument, with what follows it."""
        if not _KEY.fullmatch(name):
            self._refuse(path, "models of this format cannot write this name")
        return self.rules.sequence(f"{name}=")

    def any_keyword(self) -> Ref:
        return self.rules.terminal("/[A-Za-z_][A-Za-z0-9_]{0,62}=/")

    def key(self, name: str, path: Path) -> Ref:
        return self.rules.sequence(_quoted(name), self.colon)

    def any_key(self) -> Ref:
        return self.rules.sequence(self.string({}, []), self.colon)

    def string(self, schema: dict[str, Any], path: Path) -> Ref:
        held_to = [*self._lengths(schema), *self._patterns(schema, path)]
        if (values := strings_of(schema)) is not None:
            alternatives = " | ".join(literal(_quoted(value)) for value in values)
            return self.rules.terminal(f"({alternatives})", *held_to)
        return self.rules.terminal(*(held_to or [between_slashes(f'"{_STRING_CHARACTER}*"')]))

    def _lengths(self, schema: dict[str, Any]) -> list[str]:
        least, most = schema.get("minLength", 0), schema.get("maxLength")
        if not least and most is None:
            return []
        return [between_slashes(rf'"{_STRING_CHARACTER}{{{least},{"" if most is None else most}}}"')]

    def _patterns(self, schema: dict[str, Any], path: Path) -> list[str]:
        """Of what a pattern matches, that which needs no escapes."""
        lengthless = {name: each for name, each in schema.items() if name not in ("minLength", "maxLength")}
        wanted = [between_slashes(f'"({pattern})"') for pattern in patterns(lengthless, path)]
        return [*wanted, between_slashes(f'"{_PLAIN}"')] if wanted else []


class BareLiterals(Literals):
    """Literals of JSON but for keys, which are bare, and strings, which stand between a marker as they are."""

    def __init__(self, rules: Rules, root: dict[str, Any], place: Path, quote: Marker) -> None:
        super().__init__(rules, root, place)
        self._quote = quote

    def key(self, name: str, path: Path) -> Ref:
        if not _KEY.fullmatch(name):
            self._refuse(path, "models of this format cannot write this name")
        return self.rules.sequence(name, self.colon)

    def any_key(self) -> Ref:
        return self.rules.terminal("/[A-Za-z_][A-Za-z0-9_]{0,62}:/")

    def string(self, schema: dict[str, Any], path: Path) -> Ref:
        string = string_up_to(self.rules, self._quote, schema, [*self._place, *path])
        return self.rules.sequence(self._quote, string)


def types_of(schema: dict[str, Any]) -> list[str] | None:
    """The types that a value of ``schema`` may have; None for all, by its ``type`` or by what its keywords are of."""
    if (told := schema.get("type")) is not None:
        types = [told] if isinstance(told, str) else list(told)
        return types if "number" not in types else [type_ for type_ in types if type_ != "integer"]
    return next(([type_] for type_, words in _KEYWORDS.items() if words & schema.keys()), None)


def _type_of(value: Any) -> set[str]:
    match value:
        case bool():
            return {"boolean"}
        case None:
            return {"null"}
        case int():
            return {"integer", "number"}
        case float():
            return {"number", "integer"} if value.is_integer() else {"number"}
        case str():
            return {"string"}
        case list():
            return {"array"}
        case _:
            return {"object"}


def _quoted(text: str) -> str:
    escapes = {"\\": r"\\", '"': r"\"", "\n": r"\n", "\r": r"\r", "\t": r"\t"}
    return '"' + "".join(escapes.get(character, character) for character in text) + '"'
