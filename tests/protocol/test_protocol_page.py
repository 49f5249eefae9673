"""The tables of docs/protocol.md equal those of the code."""

from __future__ import annotations

import re
from pathlib import Path

from mlx_sidecar_protocol.error_data import DETAILS
from mlx_sidecar_protocol.generate import GenerateParams
from mlx_sidecar_protocol.registry import METHODS, MethodSpec

PAGE = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text(encoding="utf-8")
NOT_A_LIST_OF_FIELDS = {"generate", "load", "adapter/load", "models", "stats", "rpc.discover"}


def rows(header: str) -> list[list[str]]:
    """Return the cells of the rows of every table whose first column is called ``header``."""
    found: list[list[str]] = []
    for table in re.findall(rf"^\| {header} \|.*\n\|[-|]+\n((?:\|.*\n)+)", PAGE, re.MULTILINE):
        found += [[cell.strip() for cell in line.removeprefix("|").split("|")] for line in table.splitlines()]
    return found


def names(cell: str) -> list[str]:
    """Return names in back quotes, without those in braces; an optional one keeps its question mark."""
    return [name + mark for name, mark in re.findall(r"`([\w/.$]+)`(\??)", re.sub(r"\{`[^}]*\}", "", cell))]


def fields(spec: MethodSpec, member: str) -> list[str]:
    model = getattr(spec, member)
    return [name + ("" if field.is_required() else "?") for name, field in model.model_fields.items()]


def test_the_tables_of_methods_are_the_registry() -> None:
    listed = {row[0].strip("`"): row for row in rows("method")}
    assert set(listed) == set(METHODS)
    for name, row in listed.items():
        if name != "generate":
            assert names(row[1]) == fields(METHODS[name], "params"), name
        if METHODS[name].result is not None and name not in NOT_A_LIST_OF_FIELDS:
            assert names(row[2]) == fields(METHODS[name], "result"), name


def test_the_table_of_errors_is_the_one_of_the_code() -> None:
    listed = [(int(row[0].replace("−", "-")), row[1].strip("`"), set(names(row[2]))) for row in rows("code")]
    declared = [
        (
            error.code,
            error.kind,
            {name + ("" if field.is_required() else "?") for name, field in details.model_fields.items()},
        )
        for error, details in DETAILS.items()
    ]
    assert listed == declared


def test_every_parameter_of_generate_is_explained() -> None:
    listed = [row[0].strip("`") for row in rows("parameter")]
    elsewhere = {"model", "prompt", "messages", "tokens", "tools", "template_args"}
    assert sorted(listed) == sorted(set(GenerateParams.model_fields) - elsewhere)
