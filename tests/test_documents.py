"""Documents name files that exist."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlx_sidecar_protocol.registry import METHODS

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "runtime" / "mlx_sidecar"
FOLDERS = ("", "docs/", "clients/*/", "examples/", "examples/*/", "benchmarks/", "runtime/mlx_sidecar/pocket/")
DOCUMENTS = [file for folder in FOLDERS for file in sorted(ROOT.glob(f"{folder}*.md"))]
LINK = re.compile(r"\]\(([^)\s]+)\)")
PATH = re.compile(r"`(\w[\w.*-]*(?:/[\w.*-]+)+/?|\w[\w.-]*/)`")
HEADING = re.compile(r"^#+ +(.+)$", re.MULTILINE)


def named(document: Path) -> str:
    return str(document.relative_to(ROOT))


def anchors(document: Path) -> set[str]:
    """The anchors of a document's headings, as GitHub makes them."""
    headings = HEADING.findall(document.read_text())
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken_links(document: Path) -> Iterator[str]:
    for link in LINK.findall(document.read_text()):
        target, _, anchor = link.partition("#")
        if "://" in target:
            continue
        file = document.parent / target if target else document
        if not file.exists() or (anchor and anchor not in anchors(file)):
            yield link


def missing_paths(document: Path) -> Iterator[str]:
    """Paths in code spans, from the repository's root or from the runtime package, that do not exist.

    Spans whose first part is no folder of either may be anything, and names of methods look like paths.
    """
    for path in PATH.findall(document.read_text()):
        bases = [base for base in (ROOT, PACKAGE) if (base / path.split("/")[0]).is_dir()]
        patterns = (path.rstrip("/"), f"{path}.py")
        if bases and path not in METHODS and not any(next(base.glob(p), None) for base in bases for p in patterns):
            yield path


@pytest.mark.parametrize("document", DOCUMENTS, ids=named)
def test_every_relative_link_leads_to_a_file_and_a_heading(document: Path) -> None:
    assert not list(broken_links(document))


@pytest.mark.parametrize("document", DOCUMENTS, ids=named)
def test_every_path_in_a_document_exists(document: Path) -> None:
    assert not list(missing_paths(document))
