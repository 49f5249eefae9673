"""The reference lists what the protocol has, each thing with its type, its meaning and an example."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from docs_golden import RECORDED, examples
from docs_memory import SHAPES, Shape, read, table
from docs_reference import page_of, pages
from mlx_sidecar import pocket
from mlx_sidecar_protocol.error_data import DETAILS
from mlx_sidecar_protocol.registry import METHODS, MethodSpec, requests

from .blocks import ROOT

WRITTEN = pages()
RARE = {"internal_error", "engine_lost", "engine_stalled", "non_finite_logits", "non_finite_embedding"}
PUBLISHED = {  # parameters in thousand millions, as the models are sold
    "SmolLM2-135M": 0.135,
    "Qwen3-0.6B": 0.6,
    "Llama-3.2-1B": 1.24,
    "Qwen3-1.7B": 1.7,
    "Llama-3.2-3B": 3.21,
    "Qwen3-4B": 4.0,
    "Mistral-7B-v0.3": 7.25,
    "Llama-3.1-8B": 8.03,
    "Qwen3-14B": 14.8,
    "Qwen3-32B": 32.8,
}


def rows(page: str, heading: str) -> dict[str, list[str]]:
    """The rows of the table below a heading, by their first cells."""
    section = page.partition(f"\n{heading}\n")[2].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| `")]
    cells = [[cell.strip() for cell in line.replace("\\|", "¦").strip("|").split("|")] for line in lines]
    return {row[0].strip("`"): row for row in cells}


def page(spec: MethodSpec) -> tuple[str, str]:
    """The page of a method and the heading of its parameters."""
    if spec.kind == "request":
        return WRITTEN[page_of(spec.name)], "## Parameters"
    return WRITTEN["notifications.md"], f"## {spec.name}"


@pytest.mark.parametrize("spec", METHODS.values(), ids=lambda spec: spec.name)
def test_every_parameter_has_a_type_and_a_meaning(spec: MethodSpec) -> None:
    listed = rows(*page(spec))
    assert set(listed) == set(spec.params.model_fields)
    for name, (_, kind, default, meaning) in listed.items():
        assert kind, name
        assert "any value" not in kind, name
        assert meaning, name
        assert (default == "needed") == spec.params.model_fields[name].is_required()


@pytest.mark.parametrize("spec", requests(), ids=lambda spec: spec.name)
def test_every_request_has_a_recorded_example(spec: MethodSpec) -> None:
    assert spec.name in examples().answers
    assert "## Example" in WRITTEN[page_of(spec.name)]


@pytest.mark.parametrize("spec", requests(), ids=lambda spec: spec.name)
def test_every_member_of_a_result_is_listed(spec: MethodSpec) -> None:
    assert spec.result is not None
    members = {field.alias or name for name, field in spec.result.model_fields.items()}
    assert set(rows(WRITTEN[page_of(spec.name)], "## Result")) == members


def test_every_kind_of_error_is_listed_and_most_have_an_example() -> None:
    found = examples().errors
    for error, details in DETAILS.items():
        assert set(rows(WRITTEN["errors.md"], f"## {error.kind}")) == set(details.model_fields)
    assert {error.kind for error in DETAILS} - found.keys() <= RARE | {"constraint_unsatisfiable"}


def test_the_overview_leads_to_every_request_and_notification() -> None:
    assert not [name for name in METHODS if f"[`{name}`](" not in WRITTEN["index.md"]]


def test_the_recorded_examples_are_what_the_sidecar_answers() -> None:
    command = [sys.executable, str(ROOT / "tools" / "docs_record.py"), "--check"]
    path = os.pathsep.join(str(ROOT / part) for part in ("clients/conformance", "runtime", "protocol", "native"))
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path})
    assert done.returncode == 0, f"{done.stdout}{done.stderr}\n{RECORDED} is written by tools/docs_record.py"


def test_the_table_of_memory_is_what_the_tool_prints() -> None:
    text = (ROOT / "docs" / "choosing-a-model.md").read_text(encoding="utf-8")
    assert table(SHAPES) in text


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_a_model_has_the_parameters_that_it_is_sold_with(shape: Shape) -> None:
    assert shape.parameters / 1e9 == pytest.approx(PUBLISHED[shape.name], rel=0.02)


def test_the_size_of_a_model_here_is_that_of_its_file() -> None:
    weights = pocket.PATH / "model.safetensors"
    assert read(pocket.PATH).weight_bytes(16) == pytest.approx(weights.stat().st_size, rel=0.02)
