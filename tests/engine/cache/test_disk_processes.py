"""Processes that share a directory, and die in it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from mlx_sidecar.engine.cache.disk.store import DiskStore
from tests.support.disk_process import check
from tests.support.segments import EVER

ROOT = Path(__file__).parents[3]


def process(action: str, directory: Path, *numbers: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.support.disk_process", action, str(directory), *map(str, numbers)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_processes_write_read_and_evict_at_once(tmp_path: Path) -> None:
    nbytes = 20_000
    limit_bytes = 60 * nbytes
    processes = [process("churn", tmp_path, limit_bytes, nbytes, seed) for seed in range(3)]
    for child in processes:
        out, errors = child.communicate()
        assert child.returncode == 0, errors
        read, damaged, evicted, most_bytes = map(int, out.split())
        assert read > 0
        assert damaged == 0
        assert evicted > 0
        assert most_bytes <= limit_bytes
    left = DiskStore(tmp_path, limit_bytes)
    assert left.quota.used_bytes <= limit_bytes
    assert check(left, nbytes) == left.quota.files > 0
    assert not list(tmp_path.rglob("*.tmp"))


@pytest.mark.parametrize("lines", [1, 2, 5])
def test_after_a_kill_in_the_middle_of_a_write_all_that_is_found_is_whole(tmp_path: Path, lines: int) -> None:
    nbytes = 4_000_000
    with process("write_for_ever", tmp_path, EVER, nbytes, 0) as child:
        assert child.stdout is not None
        for _ in range(lines):
            child.stdout.readline()
        child.kill()
    left = DiskStore(tmp_path, EVER)
    assert check(left, nbytes) == left.quota.files >= lines
    assert left.counters["disk_damaged"] == 0


def test_a_full_disk_switches_the_tier_off_and_leaves_no_unfinished_file(tmp_path: Path) -> None:
    out, errors = process("fill", tmp_path, EVER, 1_000_000, 7).communicate()
    assert out.strip() == "Written,Failed,failed,File too large", errors
    assert "off: File too large" in errors
    assert len([path for path in tmp_path.glob("*/*") if path.is_file()]) == 1
