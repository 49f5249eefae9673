"""The trace has whole lines whenever the engine ends, and survives a full disk."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from mlx_sidecar.observe.trace import Trace


# An engine ends with its file open.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_the_file_ends_with_a_whole_line_at_any_moment(tmp_path: Path) -> None:
    path = tmp_path / "trace.json"
    trace = Trace(path)
    for n in range(2000):
        trace.operation("decode", n, n + 0.5, model="m" * (n % 50), rows=n)
        assert path.read_bytes()[-1:] in (b"", b"\n")
    again = Trace(path)  # the engine was killed and lost unflushed lines
    again.phase(1, "queue", 0.0, 1.0)
    again.flush()
    first, *lines = path.read_text().splitlines()
    assert first == "["
    events = [json.loads(line.removesuffix(",")) for line in lines]
    assert sum(event["ph"] == "X" for event in events) > 1000
    assert events[-1]["name"] == "queue"


@pytest.mark.skipif(sys.platform != "linux", reason="needs /dev/full")
def test_a_full_disk_ends_the_trace_and_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    trace = Trace(Path("/dev/full"))
    trace.flush()
    for n in range(1000):
        trace.operation("decode", n, n + 0.5)
    trace.flush()
    assert [record.levelname for record in caplog.records] == ["ERROR"]
