"""Every command in README.md and docs/ is run here or elsewhere, or says why not."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.gateway.gateway_process import gateway_process

from .blocks import DOCUMENTS, ROOT, Block, blocks, run, unnamed_commands

BLOCKS = [block for document in DOCUMENTS for block in blocks(document)]
RUN_HERE = list({(block.language, block.text): block for block in BLOCKS if block.is_run_here}.values())
SAID = ("not run: ", "run by ", "run: ")

pytestmark = pytest.mark.skipif(
    not (Path(sys.executable).parent / "mlx-sidecar").exists(), reason="mlx-sidecar is not installed, only imported"
)


def place(block: Block) -> str:
    return f"{block.document}:{block.line}"


@pytest.fixture(scope="module")
def gateway() -> Iterator[str]:
    with gateway_process("--model", "pocket") as running:
        yield running.url


@pytest.mark.parametrize("block", RUN_HERE, ids=place)
def test_a_command_runs_as_it_stands(block: Block, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    if block.language in ("js", "ts") and "CI" not in os.environ and not (ROOT / "clients/typescript/dist").is_dir():
        pytest.skip("clients/typescript/dist is missing: make setup-clients")
    run(block, tmp_path, *([request.getfixturevalue("gateway")] if "gateway" in block.words else []))


def test_a_comment_before_a_command_is_one_that_is_known() -> None:
    unknown = [place(block) for block in BLOCKS if block.said and not block.said.startswith(SAID)]
    assert not unknown


def test_a_command_that_is_not_run_has_a_reason() -> None:
    assert not [place(b) for b in BLOCKS if b.said.startswith("not run:") and len(b.said) < len("not run: a reason")]


def test_a_test_that_is_said_to_run_a_command_reads_its_document() -> None:
    for block in BLOCKS:
        if block.said.startswith("run by "):
            test = ROOT / block.said.removeprefix("run by ")
            assert Path(block.document).name in test.read_text(encoding="utf-8"), place(block)


def test_a_block_of_commands_names_its_language() -> None:
    assert not [place for document in DOCUMENTS for place in unnamed_commands(document)]
