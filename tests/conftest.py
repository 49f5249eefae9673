"""For all tests."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings

# No test measures time: on a busy machine an example takes as long as it takes.
settings.register_profile("steady", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("steady")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests on the real model come first: one worker gets them all in its first share, and loads the model once."""
    items.sort(key=lambda item: item.get_closest_marker("real") is None)
