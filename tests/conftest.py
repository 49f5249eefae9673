"""The settings of all tests."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings

# What the person at this machine has set is not tested.
os.environ["MLX_SIDECAR_CONFIG"] = ""

# No deadline, because no test measures time and a busy machine may be slow.
settings.register_profile("steady", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("steady")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put tests on the real model first, so that one worker gets them all in its first share and loads it once."""
    items.sort(key=lambda item: item.get_closest_marker("real") is None)
