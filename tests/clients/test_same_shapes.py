"""The clients for Python and TypeScript give the same operations the same answers, and name their methods alike."""

from __future__ import annotations

import inspect
import json
import re
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import pytest

from mlx_sidecar_client import Session, Sidecar, SyncSidecar
from tests.clients.node_client import CLIENT, PATIENCE_S, ROOT, SIDECAR, environment, need_built, node

CASES = [json.loads(line) for line in (ROOT / "clients/conformance/cases.jsonl").read_bytes().splitlines()]
LONG = ("large", "window", "stalled-reader", "many-together")
# Cases that need no flawed sidecar, and whose answers depend on no race: a stream that is left has whatever it had.
PLAIN = [
    case
    for case in CASES
    if not case.get("tap") and case["id"] not in LONG and not any("cancel_after" in one for one in case["operations"])
]
WITH_FAKE = ["sh", "-c", 'exec "$@" --engine fake', "sh", *SIDECAR]

# Methods that are not the other's name in the other's case: Python's, TypeScript's.
OTHERWISE_NAMED = {
    "adapter_load": "loadAdapter",
    "adapter_unload": "unloadAdapter",
    "local_list": "localModels",
    "local_delete": "deleteLocal",
}
ONLY_PYTHON = {"discover"}
ONLY_TYPESCRIPT = {"close", "complete"}


def answers(adapter: Sequence[str]) -> list[Any]:
    """One for each operation of the plain cases, from one client."""
    operations = [operation for case in PLAIN for operation in case["operations"]]
    said = "".join(json.dumps(expanded(operation)) + "\n" for operation in operations)
    done = subprocess.run(
        [*adapter, *WITH_FAKE],
        cwd=ROOT,
        env=environment(),
        input=said,
        capture_output=True,
        encoding="utf-8",
        timeout=PATIENCE_S,
        check=True,
    )
    return [json.loads(line) for line in done.stdout.split("\n") if line]


def expanded(value: Any) -> Any:
    """With ``{"$repeat": [text, times]}`` written out."""
    if isinstance(value, list):
        return [expanded(one) for one in value]
    if not isinstance(value, dict):
        return value
    if "$repeat" in value:
        text, times = value["$repeat"]
        return text * times
    return {name: expanded(one) for name, one in value.items()}


def shape(value: Any) -> Any:
    """The names and types in ``value``; a list has the shapes of its elements, each once. A null is as if left out."""
    if isinstance(value, dict):
        return {name: shape(one) for name, one in sorted(value.items()) if one is not None}
    if isinstance(value, list):
        return sorted({json.dumps(shape(one)) for one in value})
    return "number" if type(value) in (int, float) else type(value).__name__


def test_each_answer_has_the_same_names_and_types_in_both() -> None:
    need_built()
    ours = answers([sys.executable, "clients/python/conformance.py"])
    theirs = answers([node(), "clients/typescript/conformance.mjs"])
    assert len(ours) == len(theirs) > 40
    assert [shape(answer) for answer in ours] == [shape(answer) for answer in theirs]


def python_methods(owner: type) -> set[str]:
    return {name for name, _ in inspect.getmembers(owner, inspect.isfunction) if not name.startswith("_")}


def typescript_methods(name: str) -> set[str]:
    """Of a class, from the declarations that hosts read."""
    need_built()
    declared = (CLIENT / "dist" / f"{name.lower()}.d.ts").read_text()
    body = declared[declared.index(f"export declare class {name} ") :].split("\n}\n")[0]
    return set(re.findall(r"^    (?:static )?(\w+)[<(]", body, re.MULTILINE)) - {"constructor"}


def camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(word.title() for word in others)


def test_methods_are_named_alike_but_for_the_case_of_their_letters() -> None:
    ours = {name for name in python_methods(Sidecar) if not name.startswith("cache_")} - {"process_id", "server"}
    theirs = typescript_methods("Sidecar")
    named = {OTHERWISE_NAMED.get(name, camel(name)) for name in ours - ONLY_PYTHON} | {"spawn"}
    assert named == theirs - ONLY_TYPESCRIPT
    cache = {name.removeprefix("cache_") for name in python_methods(Sidecar) if name.startswith("cache_")}
    caches = (CLIENT / "dist" / "sidecar.d.ts").read_text().partition("class Cache ")[2]
    assert cache == set(re.findall(r"^    (\w+)\(", caches, re.MULTILINE)) - {"constructor"}
    assert {camel(name) for name in python_methods(Session)} | {"open", "read"} == typescript_methods("Session")


def test_the_names_that_differ_are_in_the_readme() -> None:
    page = (ROOT / "clients" / "README.md").read_text()
    for python, typescript in OTHERWISE_NAMED.items():
        assert re.search(rf"\| `{python}[^|]*\| `{typescript}", page), python


@pytest.mark.parametrize("owner", [Sidecar, SyncSidecar, Session])
def test_each_parameter_of_a_method_for_python_has_its_line(owner: type) -> None:
    for name, method in inspect.getmembers(
        owner, lambda member: inspect.isfunction(member) or inspect.ismethod(member)
    ):
        if name.startswith("_"):
            continue
        told = inspect.getdoc(method) or ""
        assert told, name
        signature = inspect.signature(method).parameters.values()
        for parameter in signature:
            if parameter.name not in ("self", "cls", "args", "kwargs"):
                assert f"\n    {parameter.name}: " in told, (name, parameter.name)
