"""Reads the table of providers and models from YAML."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from .table import LOCAL, AnyProvider, Part, Retry, Route, SidecarProvider, Table, TableError, UpstreamProvider

AnyPart = TypeVar("AnyPart", bound=Part)


def read_table(text: str) -> Table:
    """The table of a file. Raises ``TableError`` with the path, such as ``models.fast[1].provider``."""
    try:
        content = yaml.load(text, Loader=_Loader)  # a SafeLoader
    except yaml.YAMLError as error:
        raise TableError(f"it is not YAML: {error}") from None
    top = _members(content, "the file", {"providers", "models", "aliases", "retry"})
    providers = {name: _provider(name, value) for name, value in _members(top.get("providers"), "providers").items()}
    models = {name: _routes(name, value, providers) for name, value in _members(top.get("models"), "models").items()}
    if not models:
        raise TableError("models: is needed, with at least one model")
    aliases = _aliases(_members(top.get("aliases"), "aliases"), models)
    return Table(providers, models, aliases, _validated(Retry, _members(top.get("retry"), "retry"), "retry"))


class _Loader(yaml.SafeLoader):
    """YAML in which no member may stand twice, because one of them would not count."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set[str]()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                place = f"line {key.start_mark.line + 1}"
                raise yaml.constructor.ConstructorError(problem=f"{key.value!r} stands twice, again in {place}")
            seen.add(str(key.value))
        return super().construct_mapping(node, deep)


def _members(value: Any, way: str, known: set[str] | None = None) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise TableError(f"{way}: must be a mapping")
    for name in value:
        if not isinstance(name, str) or not name:
            raise TableError(f"{way}: {name!r} is not a name; put it in quotes")
        if known is not None and name not in known:
            raise TableError(f"{name}: there is no such member, but {', '.join(sorted(known))}")
    return value


def _provider(name: str, value: Any) -> AnyProvider:
    way = f"providers.{name}"
    if name == LOCAL:
        raise TableError(f"{way}: this name is the gateway's own sidecar's, whose options are on the command line")
    members = _members(value, way)
    kind = members.get("kind")
    if kind == "sidecar":
        return _validated(SidecarProvider, members, way)
    if kind in ("openai", "anthropic"):
        return _validated(UpstreamProvider, members, way)
    raise TableError(f"{way}.kind: must be sidecar, openai or anthropic")


def _routes(name: str, value: Any, providers: Mapping[str, AnyProvider]) -> list[Route]:
    way = f"models.{name}"
    if not isinstance(value, list) or not value:
        raise TableError(f"{way}: must be a list of at least one route")
    routes = [_validated(Route, each, f"{way}[{number}]") for number, each in enumerate(value)]
    for number, route in enumerate(routes):
        if route.provider != LOCAL and route.provider not in providers:
            known = ", ".join([LOCAL, *providers])
            raise TableError(f"{way}[{number}].provider: there is no {route.provider!r}, but {known}")
    if any(route.weight is not None for route in routes) and not any(route.weight for route in routes):
        raise TableError(f"{way}[0].weight: one weight of a model must be above 0")
    return routes


def _aliases(members: Mapping[str, Any], models: Mapping[str, Any]) -> dict[str, str]:
    for name, target in members.items():
        if name in models:
            raise TableError(f"aliases.{name}: models has this name, too")
        if not isinstance(target, str) or target not in models:
            raise TableError(f"aliases.{name}: {target!r} is not in models")
    return dict(members)


def _validated(part: type[AnyPart], value: Any, way: str) -> AnyPart:
    try:
        return part.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in first["loc"])
        raise TableError(f"{way}{place}: {first['msg'].removeprefix('Value error, ')}") from None
