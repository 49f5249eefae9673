"""The tools of the gateway's benchmarks count rightly, and make conversations of the size that is asked for."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.gateway.agents import Sizes, agent
from benchmarks.gateway.streams import BEGUN, Tally, _Stream
from benchmarks.serving import report

EVENT = b'data: {"text":"}\\n"}\n\n'


@given(st.integers(0, 2 * BEGUN), st.lists(st.integers(0, 20 * len(EVENT)), max_size=5))
def test_events_are_counted_wherever_they_are_cut(events: int, cuts: list[int]) -> None:
    tally = Tally(1)
    stream = _Stream(b"", tally)
    data = b"HTTP/1.1 200 OK\r\n\r\n: ping\n\n" + EVENT * events
    at = 0
    for cut in [*sorted(cuts), len(data)]:
        if piece := data[at:cut]:  # asyncio never delivers nothing
            stream.data_received(piece)
        at = max(at, cut)
    assert (tally.events, tally.bytes) == (events, len(data))
    assert tally.all_begun.is_set() == (events >= BEGUN)


@pytest.mark.parametrize("sizes", [Sizes(), Sizes(system_bytes=300, tools=2, tools_bytes=600)])
def test_an_agents_conversation_has_the_sizes_that_are_asked_for_and_its_seeds_words(sizes: Sizes) -> None:
    made = agent(1, sizes)
    assert sum(map(len, made.system)) == pytest.approx(sizes.system_bytes, rel=0.1)
    assert len(made.tools) == sizes.tools
    assert len(json.dumps(made.tools)) == pytest.approx(sizes.tools_bytes, rel=0.15)
    assert made == agent(1, sizes)
    assert made.system != agent(2, sizes).system


COUNT = """\
import sys
from pathlib import Path
from benchmarks.gateway.allocations import Counter, compiled
counter = Counter(str(compiled(Path(sys.argv[1]))))
before = counter.read()
kept = [bytes(10_000) for _ in range(100)]
after = counter.read()
print(after.calls - before.calls, after.bytes - before.bytes)
"""


def test_the_counter_counts_what_python_allocates(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", COUNT, str(tmp_path)], capture_output=True, text=True, check=True)
    calls, bytes_ = map(int, done.stdout.split())
    assert 100 <= calls < 200
    assert 1_000_000 <= bytes_ < 1_100_000


def test_a_page_keeps_the_sections_of_others() -> None:
    page = report.merge("", {"Ours": "## Ours\n\n1\n"}, ["Ours"])
    page = report.merge(page, {"Theirs": "## Theirs\n\n2\n"}, [])
    page = report.merge(page, {"Ours": "## Ours\n\n3\n"}, ["Ours"])
    assert page.index("## Ours\n\n3\n") < page.index("## Theirs\n\n2\n")
