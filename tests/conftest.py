"""The settings of all tests."""

from __future__ import annotations

import gc
import os
from collections.abc import Generator

import pytest
from hypothesis import HealthCheck, settings

# What the person at this machine has set is not tested.
os.environ["MLX_SIDECAR_CONFIG"] = ""

# No deadline, because no test measures time and a busy machine may be slow.
settings.register_profile("steady", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("steady")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Collect garbage once, behind the imports and the twelve thousand tests, which stay to the end.

    The collector would look at all of them again and again, a quarter of the time that finding the tests takes.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.collect()
        gc.freeze()
        gc.enable()


# Files of few tests that take long, most of that in waiting: a minute or two each, where the median test takes 5 ms.
LONG = (
    "gateway/test_page_browser.py",
    "clients/test_conformance_kit.py",
    "benchmarks/test_faults.py",
    "e2e/test_hostile_directories.py",
    "e2e/test_fuzz.py",
    "e2e/test_hostile.py",
    "clients/test_typescript.py",
    "clients/test_vscode.py",
    "clients/test_examples_node.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put tests first whose common set-up takes long, so that one worker gets them all in its share, and sets up once.

    They are begun before another worker has nothing left to do, and takes over a part of the share. So are tests that
    take long themselves: at the end two workers would wait for the one that has such a test.
    """
    items.sort(key=_place)


def _place(item: pytest.Item) -> int:
    if item.get_closest_marker("real") is not None:
        return 0
    if "composition" in item.path.parts:
        return 1
    return 2 if item.path.as_posix().endswith(LONG) else 3
