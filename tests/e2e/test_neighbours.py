"""Other packages installed beside the sidecar change nothing: it lives in environments that others furnish."""

from __future__ import annotations

import os
from importlib.util import find_spec

import pytest

from tests.support.sidecar import sidecar


def test_requests_that_take_time_are_served_where_sniffio_is_installed() -> None:
    # anyio asks it which loop runs, and outside of tasks it does not know by itself.
    if find_spec("sniffio") is None:
        assert "CI" not in os.environ, "CI needs sniffio: trio brings it"
        pytest.skip("sniffio is not installed")
    with sidecar("--engine", "fake") as process:
        assert process.call("generate", {"model": "fake?tokens=3", "prompt": "x"})["finish_reason"] == "stop"
        process.close_stdin()
        assert process.exit_status() == 0
