"""Arithmetic of bytes."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlx_sidecar.engine.core import memory_cost as budget
from mlx_sidecar.engine.core.memory_cost import LayerCost, SequenceCost
from mlx_sidecar_protocol.errors import ModelLoadFailed, OutOfMemory

layers = st.builds(LayerCost, st.integers(0, 1000), st.integers(0, 1000), st.integers(0, 100), st.booleans())


@given(st.lists(layers), st.integers(0, 1000), st.integers(0, 1000))
def test_a_longer_sequence_never_costs_less(layers: list[LayerCost], some: int, more: int) -> None:
    cost = SequenceCost(tuple(layers))
    assert cost.bytes_for(some) <= cost.bytes_for(some + more)


@given(st.lists(layers), st.integers(0, 1000))
def test_merged_layers_cost_the_same(layers: list[LayerCost], tokens: int) -> None:
    merged = SequenceCost.of(layers)
    assert merged.bytes_for(tokens) == SequenceCost(tuple(layers)).bytes_for(tokens)
    assert len(merged.layers) == len({(layer.window, layer.pooled) for layer in layers})


def test_a_window_bounds_what_a_layer_holds() -> None:
    assert LayerCost(fixed_bytes=5, token_bytes=2, window=10).bytes_for(1000) == 25
    assert LayerCost(fixed_bytes=5, token_bytes=2).bytes_for(1000) == 2005
    assert LayerCost(token_bytes=2, window=10, pooled=True).bytes_for(1000) == 2 * (10 + budget.WINDOW_SLACK)


@given(st.integers(1, 1 << 20))
def test_a_room_is_at_most_half_as_large_again_as_what_is_in_it_unless_it_is_small(tokens: int) -> None:
    room = budget.room_for(tokens)
    assert tokens <= room <= max(256, tokens * 3 // 2)
    assert room <= max(budget.LEAST_ROOM, tokens * 2)
    assert LayerCost(token_bytes=2, pooled=True).bytes_for(tokens) == 2 * room


def test_the_machine_limit_leaves_room_for_others() -> None:
    assert 0 < budget.machine_limit_bytes() < budget._physical_bytes()


def tree(root: Path, cgroups: str | None, limits: dict[str, str]) -> list[int]:
    """The limits that are found below ``root``, with ``limits`` as files below ``sys/fs/cgroup``."""
    if cgroups is not None:
        (root / "proc/self").mkdir(parents=True)
        (root / "proc/self/cgroup").write_text(cgroups)
    for name, text in limits.items():
        file = root / "sys/fs/cgroup" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text + "\n")
    return budget.cgroup_limits_bytes(root)


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
    monkeypatch.setattr(budget, "cgroup_limits_bytes", lambda: limits)
    monkeypatch.setattr(budget, "_physical_bytes", lambda: 2000)
    assert budget.granted_bytes(wanted) == granted


@given(st.text(), st.text())
def test_no_path_leads_out_of_the_mount(path: str, more: str) -> None:
    top = Path("/sys/fs/cgroup")
    for directory in budget._upwards(top, f"/{path}/../{more}"):
        assert directory == top or top in directory.parents
        assert ".." not in directory.parts


@pytest.mark.parametrize(
    ("error", "numbers"),
    [
        (RuntimeError("[malloc] Unable to allocate 987 bytes."), (987, 500)),
        (RuntimeError("[metal::malloc] Attempting to allocate 98 bytes which is greater than the maximum."), (98, 97)),
        (RuntimeError("cudaMallocAsync(&p, n, s) failed: out of memory"), (0, 0)),
        (MemoryError(), (0, 0)),
        (OutOfMemory(need_bytes=2, have_bytes=1), (2, 1)),
    ],
)
def test_an_allocation_that_failed_is_known_by_what_it_says_and_has_less_than_it_wanted(
    error: Exception, numbers: tuple[int, int]
) -> None:
    typed = budget.out_of_memory(error, 500)
    assert typed is not None
    assert (typed.details["need_bytes"], typed.details["have_bytes"]) == numbers


def test_an_allocation_that_failed_is_known_through_what_was_made_of_it() -> None:
    wrapped = ModelLoadFailed("m", "its first token failed")
    assert budget.out_of_memory(wrapped, 0) is None
    wrapped.__cause__ = RuntimeError("[malloc] Unable to allocate 5 bytes.")
    assert budget.out_of_memory(wrapped, 0) is not None
