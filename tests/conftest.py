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
    """Put tests first whose common set-up takes long, so that one worker gets them all in its share, and sets up once.

    They are begun before another worker has nothing left to do, and takes over a part of the share.
    """
    items.sort(key=_place)


def _place(item: pytest.Item) -> int:
    if item.get_closest_marker("real") is not None:
        return 0
    return 1 if "composition" in item.path.parts else 2
