from __future__ import annotations

import subprocess
import sys

from benchmarks.depth import Gap, Wait, rows
from tests.support.sidecar import ROOT


def test_gaps_and_waits_are_told_in_decode_steps_of_their_own_depth() -> None:
    gaps = [Gap(0.01, 0, 10), Gap(0.02, 16, 500), Gap(0.02, 0, 5000), Gap(0.05, 4, 6000)]
    waits = [Wait(0.03, 100), Wait(0.08, 6000)]
    told = {row.what.partition(":")[::2]: row.figure for row in rows(gaps, waits)}
    shallow, deep = "0 to 500 tokens deep", "4,096 to 6,000 tokens deep"
    assert told[shallow, " gaps of 8 streams, decode steps"] == "median 1.0, p95 2.0, p99 2.0, worst 2.0 of 2"
    assert told[deep, " gaps of 8 streams, decode steps"] == "median 1.0, p95 2.5, p99 2.5, worst 2.5 of 2"
    assert told[deep, " first token of a short request, decode steps"].startswith("median 4.0")
    assert told[shallow, " prefill; a decode step"] == "533 tok/s; 10.0 ms"


def test_a_depth_at_which_decoding_alone_was_not_measured_has_no_row() -> None:
    assert rows([Gap(0.02, 16, 500)], [Wait(0.1, 500)]) == []


def test_the_benchmark_runs_on_a_small_model() -> None:
    command = [sys.executable, "-m", "benchmarks.depth", "--size", "1M", "--long", "3000", "--patience", "600"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "tokens deep: gaps of 8 streams, decode steps" in done.stdout
