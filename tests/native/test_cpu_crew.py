"""A crew does each share of a round once, on threads that start with the first work worth sharing and end with it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlx_sidecar_native import _native

Crew = _native.cpu.Crew

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="threads are counted in /proc")

MUCH = 1e12
SOURCES = Path(__file__).parents[2] / "native/src"


def running_threads() -> set[Path]:
    return set(Path("/proc/self/task").iterdir())


@given(st.integers(1, 5), st.lists(st.integers(0, 40), max_size=4), st.sampled_from([0.0, MUCH]))
def test_shares_are_divided_in_order_and_each_is_done_once(threads: int, rounds: list[int], operations: float) -> None:
    crew = Crew(threads)
    assert crew.threads == threads
    for shares in rounds:
        parts = crew.divide(shares, operations)
        assert [i for first, last in parts for i in range(first, last)] == list(range(shares))


@pytest.mark.parametrize("shares", [6, 7, 100])
def test_parts_differ_by_one_share_at_most(shares: int) -> None:
    lengths = [last - first for first, last in Crew(3).divide(shares, MUCH)]
    assert max(lengths) - min(lengths) <= 1


def test_threads_start_with_work_worth_sharing_and_end_with_the_crew() -> None:
    before = running_threads()
    crew = Crew(4)
    crew.divide(100, 10.0)
    crew.divide(1, MUCH)
    assert running_threads() == before, "little work, or a single share, stays with the caller"
    assert crew.divide(100, MUCH)[3] == (75, 100)
    assert len(running_threads() - before) == 3
    del crew
    assert running_threads() <= before


def test_a_crew_of_one_starts_nothing() -> None:
    before = running_threads()
    crew = Crew(1)
    assert crew.divide(100, MUCH) == [(0, 100)]
    assert running_threads() == before


def test_a_process_may_fork_between_making_a_crew_and_its_first_work() -> None:
    code = (
        "import os\n"
        "from mlx_sidecar_native import _native\n"
        "crew = _native.cpu.Crew(2)\n"
        "child = os.fork()\n"
        "assert crew.divide(4, 1e12) == [(0, 2), (2, 4)]\n"
        "if child: assert os.waitpid(child, 0)[1] == 0\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.parametrize("threads", [0, -1])
def test_a_crew_has_a_thread(threads: int) -> None:
    with pytest.raises(ValueError, match="at least one thread"):
        Crew(threads)


def test_the_race_detector_finds_nothing(tmp_path: Path) -> None:
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("needs g++")
    program = tmp_path / "crew_races"
    command = [compiler, "-std=c++17", "-O1", "-g", "-pthread", "-fsanitize=thread", f"-I{SOURCES}", f"-o{program}"]
    sources = [Path(__file__).with_name("crew_races.cpp"), SOURCES / "cpu/crew.cpp"]
    built = subprocess.run([*command, *map(str, sources)], capture_output=True, text=True, timeout=300)
    if "tsan" in built.stderr:
        pytest.skip("this compiler has no race detector")
    assert built.returncode == 0, built.stderr
    subprocess.run([program], check=True, timeout=300, env={"TSAN_OPTIONS": "halt_on_error=1"})
