"""For clients that start a program: one of their own, or one that leads to a pair in our process."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.listening_pair import ListeningPair, listening_pair


@pytest.fixture(scope="session")
def pairs() -> Iterator[ListeningPair]:
    with listening_pair() as listening:
        yield listening
