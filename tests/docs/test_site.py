"""The documentation as a site: it is built without a warning, fetches nothing, and has every page in its menu."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from mkdocs.config import load_config

from .blocks import ROOT

PAGES = sorted((ROOT / "docs").rglob("*.md"))
FETCHED = re.compile(r"<(?:script|link|img|iframe)\b[^>]*?(?:src|href)=\"?(https?:)?//", re.IGNORECASE)
MENU = [
    "Start here",
    "Use it from your language",
    "Tasks",
    "Gateway",
    "Ship it",
    "Tune and debug",
    "Reference",
    "Platforms and versions",
    "Security",
    "Comparison",
    "For those who carry it on",
]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site. A warning, such as one of a link that leads nowhere, ends the build with an error."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


def menu(entries: list[object]) -> Iterator[str]:
    """The paths of a menu."""
    for entry in entries:
        for below in entry.values() if isinstance(entry, dict) else [entry]:
            if isinstance(below, list):
                yield from menu(below)
            else:
                yield str(below)


def test_it_is_built_and_has_the_reference(site: Path) -> None:
    assert (site / "index.html").is_file()
    generate = (site / "docs" / "reference" / "methods" / "generate.html").read_text(encoding="utf-8")
    assert "reasoning_budget" in generate


def test_no_page_fetches_anything_from_elsewhere(site: Path) -> None:
    fetching = [page.name for page in site.rglob("*.html") if FETCHED.search(page.read_text(encoding="utf-8"))]
    assert not fetching


def test_a_link_to_a_page_leads_to_its_html_and_one_to_a_folder_is_text(site: Path) -> None:
    protocol = (site / "docs" / "protocol.html").read_text(encoding="utf-8")
    assert 'href="security.html' in protocol
    assert 'href="../schemas"' not in protocol


def test_the_menu_is_by_reader_and_has_every_page() -> None:
    nav: list[object] = load_config(str(ROOT / "mkdocs.yml")).nav or []
    assert [name for entry in nav if isinstance(entry, dict) for name in entry] == MENU
    assert not {str(page.relative_to(ROOT)) for page in PAGES} - set(menu(nav))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_first_line_of_a_page_names_its_readers(page: Path) -> None:
    title, blank, readers = page.read_text(encoding="utf-8").splitlines()[:3]
    assert title.startswith("# ")
    assert not blank
    assert re.fullmatch(r"\*For .+\.\*", readers), readers
