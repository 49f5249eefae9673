from __future__ import annotations

import math
from pathlib import Path

import pytest

from benchmarks.llama.plots import lines
from benchmarks.serving import plots

pytest.importorskip("matplotlib")  # of the benchmarks extra
OURS, PEER = list(plots.COLOURS)[:2]


def test_pictures_are_small_files(tmp_path: Path) -> None:
    gaps = [(0.01 * n, 1 + (7 * n % 100) / 50) for n in range(10_000)]
    plots.gaps_over_time({OURS: gaps, PEER: []}, tmp_path / "gaps.png")
    plots.throughput({OURS: {1: 10.0, 32: 90.0}, PEER: {1: 9.0, 32: 91.0}}, tmp_path / "throughput.png")
    panels = {
        "10 requests/s (30%)": {OURS: [0.1] * 500, PEER: [0.2, math.inf]},
        "20 requests/s (60%)": {OURS: [3.0], PEER: [math.inf]},
    }
    plots.first_token_cdf(panels, tmp_path / "cdf.png")
    lines({"ours": {1: 10.0, 2: 15.0}, "llama.cpp Q4_0": {1: 11.0, 2: 19.0}}, "threads", tmp_path / "lines.svg")
    sizes = [path.stat().st_size for path in tmp_path.iterdir()]
    assert len(sizes) == 4
    assert all(1000 < size < 100_000 for size in sizes)


def test_labels_at_the_same_height_are_set_apart() -> None:
    placed = plots.apart({OURS: 100.0, PEER: 99.0, "mlx_lm.server": 10.0})
    assert placed["mlx_lm.server"] == 10
    assert placed[OURS] - placed[PEER] >= 7
