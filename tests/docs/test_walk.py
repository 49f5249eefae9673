"""docs/start.md can be walked without a guess: its blocks are there, and its part without a network runs."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import walk
from tests.clients.node_client import need_built, node

pytestmark = pytest.mark.skipif(
    not (Path(sys.executable).parent / "mlx-sidecar").exists(), reason="mlx-sidecar is not installed, only imported"
)


def test_each_block_of_the_page_is_a_step_of_a_heading_that_is_walked() -> None:
    walked = {*walk.ALWAYS, *walk.LANGUAGES.values(), walk.REAL_MODEL}
    assert {step.heading for step in walk.steps()} == walked


def test_each_language_writes_a_file_and_runs_it() -> None:
    for heading in walk.LANGUAGES.values():
        steps = [step for step in walk.steps() if step.heading == heading]
        (written,) = [step.name for step in steps if step.name]
        assert written in steps[-1].text


def test_the_steps_that_install_are_known_as_such() -> None:
    installing = {(step.heading, step.installs) for step in walk.steps() if step.installs}
    clients = {(heading, "client") for heading in ("Install", walk.LANGUAGES["Python"], walk.LANGUAGES["Node"])}
    assert installing == {("Install", "engine"), *clients}


def test_who_has_it_installed_comes_to_an_answer_in_each_language(tmp_path: Path) -> None:
    node()
    need_built()
    rows, totals = walk.walk(tmp_path, {"engine", "client"}, None)
    assert list(totals) == list(walk.LANGUAGES)
    assert len(rows) == len([step for step in walk.steps() if not step.installs and step.heading != walk.REAL_MODEL])


def test_a_step_that_fails_is_told_with_its_place_and_words(tmp_path: Path) -> None:
    there = walk.Walk(tmp_path, {"PATH": "/usr/bin:/bin"})
    step = walk.Step("A heading", 7, "echo before\necho why >&2\nfalse\necho behind\n", None, installs=None)
    with pytest.raises(RuntimeError, match=r"start\.md:7: status 1\nbefore\n\nwhy"):
        there.take(step)


def test_a_step_begins_where_the_last_one_ended(tmp_path: Path) -> None:
    there = walk.Walk(tmp_path, {"PATH": "/usr/bin:/bin"})
    there.take(walk.Step("A heading", 1, "mkdir inner\ncd inner\nexport WORD='a\nb'\n", None, installs=None))
    there.take(walk.Step("A heading", 4, "one=1\n", "written.txt", installs=None))
    assert (
        there.take(walk.Step("A heading", 5, 'cat written.txt; echo "$WORD"', None, installs=None)) == "one=1\na\nb\n"
    )
