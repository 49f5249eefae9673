"""The limit of memory is the least of the machine's and its cgroups'."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlx_sidecar import machine_memory


def test_the_machine_limit_leaves_room_for_others() -> None:
    assert 0 < machine_memory.machine_limit_bytes() < machine_memory._physical_bytes()


def tree(root: Path, cgroups: str | None, limits: dict[str, str]) -> list[int]:
    """Return the limits found below ``root``, with ``limits`` as files below ``sys/fs/cgroup``."""
    if cgroups is not None:
        (root / "proc/self").mkdir(parents=True)
        (root / "proc/self/cgroup").write_text(cgroups)
    for name, text in limits.items():
        file = root / "sys/fs/cgroup" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text + "\n")
    return machine_memory.cgroup_limits_bytes(root)


def test_limits_count_from_our_own_cgroup_up_to_the_root_and_not_beside_it(tmp_path: Path) -> None:
    limits = {
        "memory.max": "max",
        "app.slice/memory.max": "400",
        "app.slice/ours/memory.max": "500",
        "app.slice/other/memory.max": "1",
    }
    assert sorted(tree(tmp_path, "0::/app.slice/ours\n", limits)) == [400, 500]


def test_the_memory_controller_of_the_first_version_is_asked_the_same_way(tmp_path: Path) -> None:
    limits = {
        "memory/a/b/memory.limit_in_bytes": "300",
        "memory/a/memory.limit_in_bytes": "700",
        "memory/elsewhere/memory.limit_in_bytes": "1",
    }
    assert sorted(tree(tmp_path, "5:cpu,cpuacct:/elsewhere\n4:hugetlb,memory:/a/b\n0::/\n", limits)) == [300, 700]


def test_a_path_that_only_the_outside_knows_leaves_the_limit_of_the_mount(tmp_path: Path) -> None:
    assert set(tree(tmp_path, "0::/../../pod/box\n", {"memory.max": "4096"})) == {4096}


def test_without_cgroups_there_is_no_limit(tmp_path: Path) -> None:
    assert tree(tmp_path, None, {}) == []


@pytest.mark.parametrize(
    ("wanted", "limits", "granted"),
    [
        (500, [], 500),
        (500, [1000], 500),
        (500, [400], 320),
        (500, [500], 500),
        (5000, [], 2000),
        (5000, [900, 400], 320),
    ],
)
def test_no_more_is_granted_than_a_cgroup_or_the_machine_has(
    wanted: int, limits: list[int], granted: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine_memory, "cgroup_limits_bytes", lambda: limits)
    monkeypatch.setattr(machine_memory, "_physical_bytes", lambda: 2000)
    assert machine_memory.granted_bytes(wanted) == granted


@given(st.text(), st.text())
def test_no_path_leads_out_of_the_mount(path: str, more: str) -> None:
    top = Path("/sys/fs/cgroup")
    for directory in machine_memory._upwards(top, f"/{path}/../{more}"):
        assert directory == top or top in directory.parents
        assert ".." not in directory.parts
