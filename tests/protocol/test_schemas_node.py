"""The schemas as a JavaScript host uses them: ajv compiles them, and TypeScript types come out of them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support.frames import committed, validator

NODE_TESTS = Path(__file__).parents[1] / "node"

SAMPLES = [
    ("GenerateParams", {"model": "m", "prompt": "x"}),
    ("GenerateParams", {"model": "m", "prompt": "x", "temperature": -1}),
    ("GenerateParams", {"model": "m", "prompt": "x", "logit_bias": {"x": 1}}),
    ("GenerateParams", {"model": "m", "prompt": "x", "logit_bias": {"12": 1}}),
    ("GenerateParams", {"model": "a\x00b", "prompt": "x"}),
    ("AnyOutgoingFrame", {"jsonrpc": "2.0", "id": 1, "result": {}}),
    ("AnyOutgoingFrame", {"jsonrpc": "2.0", "id": 1, "result": {"extra": 1}}),
    ("AnyIncomingFrame", {"jsonrpc": "2.0", "method": "exit", "params": None}),
    ("StreamDelta", {"stream": "s", "seq": 0, "offset": 0, "text": "a", "tokens": [1]}),
    ("StreamDelta", {"stream": "s", "seq": -1, "offset": 0, "text": "a", "tokens": [1]}),
]


@pytest.fixture(scope="module")
def report() -> Any:
    node = shutil.which("node")
    if node is None:
        assert "CI" not in os.environ, "CI needs Node"
        pytest.skip("Node is not installed")
    if not (NODE_TESTS / "node_modules" / "ajv").is_dir():
        assert "CI" not in os.environ, "CI needs tests/node/node_modules"
        pytest.skip("tests/node/node_modules is missing: npm ci --prefix tests/node")
    samples = json.dumps([{"definition": definition, "value": value} for definition, value in SAMPLES])
    done = subprocess.run(
        [node, "check.mjs"], cwd=NODE_TESTS, input=samples, capture_output=True, encoding="utf-8", check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_ajv_compiles_every_definition(report: Any) -> None:
    assert set(report["compiled"]) == set(committed("mlx-sidecar.schema.json")["$defs"])


def test_ajv_and_jsonschema_agree(report: Any) -> None:
    assert report["verdicts"] == [validator(definition).is_valid(value) for definition, value in SAMPLES]


def test_typescript_takes_the_generated_types(report: Any) -> None:
    assert report["diagnostics"] == []


def test_every_definition_is_one_exported_type_of_its_own_name(report: Any) -> None:
    assert set(report["exported"]) == {*committed("mlx-sidecar.schema.json")["$defs"], "AnyFrame"}
    assert len(report["exported"]) == len(set(report["exported"]))
