"""Writes the reference of the protocol, from its registry, schemas and recorded conversations.

``python tools/docs_reference.py DIRECTORY`` writes its pages there; the site has them made while it is built.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from docs_golden import Examples, Exchange, examples, shown
from docs_types import Schema, cell, default_of, reachable, type_of
from docs_words import meaning, occasion
from mlx_sidecar_protocol.error_data import DETAILS
from mlx_sidecar_protocol.errors import RpcError
from mlx_sidecar_protocol.registry import METHODS, MethodSpec, host_notifications, own_notifications, requests
from mlx_sidecar_protocol.schema import bundle

_FOR = "*For authors of hosts and clients. Made from the code of the protocol; the explanations are in [its page]({}).*"

_ABOUT = (
    "Each request, notification, type and error of protocol version 1. Examples are recorded from a sidecar; process"
    " ids, versions and times in them are replaced, and `…` stands where they are shortened."
)


def page_of(method: str) -> str:
    """Return the file of a method's page: ``methods/session-open.md``."""
    return f"methods/{method.replace('/', '-').replace('$', '').replace('.', '-').strip('-')}.md"


def pages() -> dict[str, str]:
    """Return the text of each page by its path within the reference."""
    definitions: dict[str, Schema] = bundle()["$defs"]
    found = examples()
    written = {"index.md": _index(), "notifications.md": _notifications(definitions, found)}
    written |= {page_of(spec.name): _request(spec, definitions, found) for spec in requests()}
    written |= {"errors.md": _errors(found), "types.md": _types(definitions)}
    return written


def _index() -> str:
    rows = [f"| [`{spec.name}`]({page_of(spec.name)}) | {cell(spec.summary)} |" for spec in requests()]
    told = [
        f"| [`{spec.name}`](notifications.md#{_slug(spec.name)}) | {_sender(spec)} | {cell(spec.summary)} |"
        for spec in (*host_notifications(), *own_notifications())
    ]
    head = ["# Reference", "", _FOR.format("../protocol.md"), "", _ABOUT, ""]
    methods = ["## Requests", "", "| method | |", "|---|---|", *rows, ""]
    notifications = ["## Notifications", "", "| method | told by | |", "|---|---|---|", *told, ""]
    rest = [f"[All {len(DETAILS)} kinds of errors](errors.md); [all types](types.md).", ""]
    return "\n".join([*head, *methods, *notifications, *rest])


def _sender(spec: MethodSpec) -> str:
    return "the host" if spec.direction == "host-to-sidecar" else "the sidecar"


def _slug(text: str) -> str:
    return text.lower().replace("/", "").replace("$", "")


def _request(spec: MethodSpec, definitions: dict[str, Schema], found: Examples) -> str:
    lines = [f"# {spec.name}", "", _FOR.format("../../protocol.md"), "", spec.summary, ""]
    lines += ["## Parameters", "", *_fields(definitions[spec.params.__name__], "../types.md", spec.name)]
    if spec.result:
        lines += ["## Result", "", *_fields(definitions[spec.result.__name__], "../types.md", spec.name, "always")]
    kinds = ", ".join(f"[`{error.kind}`](../errors.md#{error.kind})" for error in spec.errors)
    lines += ["## Errors", "", kinds, "", *_example(found.answers.get(spec.name))]
    return "\n".join(lines)


def _fields(schema: Schema, types: str, method: str = "", needed: str = "needed") -> Iterator[str]:
    """The table of an object's members; ``needed`` is said of those that cannot be left out."""
    properties: dict[str, Schema] = schema.get("properties", {})
    if description := schema.get("description"):
        yield from (cell(description), "")
    if not properties:
        yield from ("None.", "")
        return
    yield from (f"| name | type | {'default' if needed == 'needed' else 'there'} | |", "|---|---|---|---|")
    for name, one in properties.items():
        default = needed if name in schema.get("required", ()) else default_of(one)
        yield f"| `{name}` | {cell(type_of(one, types))} | {cell(default)} | {cell(meaning(one, name, method))} |"
    yield ""


def _example(exchange: Exchange | None) -> Iterator[str]:
    if exchange is None:
        return
    yield from ("## Example", "", f"From the recorded session `{exchange.source}`.", "")
    yield from _blocks(exchange)


def _blocks(exchange: Exchange) -> Iterator[str]:
    for frame in (exchange.asked, exchange.answered):
        if frame is not None:
            yield from ("```json" if not isinstance(frame, str) else "```", _frame(frame), "```", "")


def _frame(frame: Any) -> str:
    return frame if isinstance(frame, str) else shown(frame)


def _notifications(definitions: dict[str, Schema], found: Examples) -> str:
    lines = ["# Notifications", "", _FOR.format("../protocol.md"), ""]
    for spec in (*host_notifications(), *own_notifications()):
        lines += [f"## {spec.name}", "", f"Told by {_sender(spec)}. {spec.summary}", ""]
        lines += _fields(definitions[spec.params.__name__], "types.md", spec.name)
        if exchange := found.notifications.get(spec.name):
            lines += [f"From the recorded session `{exchange.source}`:", "", *_blocks(exchange)]
    return "\n".join(lines)


def _errors(found: Examples) -> str:
    lines = ["# Errors", "", _FOR.format("../protocol.md"), ""]
    lines += ["`data` of each has `kind` and `retryable` besides what its table names.", ""]
    for error, details in DETAILS.items():
        again = "the same request may succeed later" if error.retryable else "trying the same again does not help"
        lines += [f"## {error.kind}", "", f"Code {error.code}; {again}. {_when(error)}", ""]
        if details.model_fields:
            lines += _fields(details.model_json_schema(mode="serialization"), "types.md")
        methods = [f"[`{name}`]({page_of(name)})" for name, spec in METHODS.items() if error in spec.errors]
        lines += [f"Answered by: {', '.join(methods) or 'any frame'}.", ""]
        if exchange := found.errors.get(error.kind):
            lines += [f"From the recorded session `{exchange.source}`:", "", *_blocks(exchange)]
        else:
            lines += ["No recorded session has one.", ""]
    return "\n".join(lines)


def _when(error: type[RpcError]) -> str:
    text = " ".join((error.__doc__ or "").split()) or occasion(error.kind)
    return f"{cell(text)[:1].upper()}{cell(text)[1:].rstrip('.')}." if text else ""


def _types(definitions: dict[str, Schema]) -> str:
    roots = {spec.params.__name__ for spec in METHODS.values()}
    roots |= {spec.result.__name__ for spec in METHODS.values() if spec.result}
    named = [*reachable(definitions, roots), *_roots_that_are_named(definitions, roots)]
    written = {name: definitions[name] for name in named} | _types_of_errors()
    lines = ["# Types", "", _FOR.format("../protocol.md"), ""]
    for name, schema in sorted(written.items()):
        lines += [f"## {name}", "", *_type(schema)]
    return "\n".join(lines)


def _types_of_errors() -> dict[str, Schema]:
    """Return the types that ``data`` of errors has besides those of messages."""
    found: dict[str, Schema] = {}
    for details in DETAILS.values():
        found |= details.model_json_schema(mode="serialization").get("$defs", {})
    return found


def _roots_that_are_named(definitions: dict[str, Schema], roots: set[str]) -> list[str]:
    return sorted({name for root in roots for name in reachable(definitions, {root})} & roots)


def _type(schema: Schema) -> Iterator[str]:
    if "properties" in schema:
        yield from _fields(schema, "types.md")
    else:
        yield from (f"{cell(schema.get('description', ''))} {type_of(schema, 'types.md')}".strip(), "")


def main(directory: str) -> None:
    for name, text in pages().items():
        file = Path(directory) / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:2] or sys.exit("DIRECTORY is missing"))
