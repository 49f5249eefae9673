"""The kernel's count of processes that it killed for want of memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlx_sidecar.front.supervision.oom_kills import oom_kills


@pytest.mark.parametrize(("text", "kills"), [("pgfault 9\noom_kill 3\nlast 1\n", 3), ("pgfault 9\n", 0), ("", 0)])
def test_kills_are_counted_where_the_system_tells(tmp_path: Path, text: str, kills: int) -> None:
    (tmp_path / "vmstat").write_text(text)
    assert oom_kills(tmp_path / "vmstat") == kills


def test_a_system_that_does_not_tell_has_killed_nobody(tmp_path: Path) -> None:
    assert oom_kills(tmp_path / "vmstat") == 0
