from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.serving.sse import ChunkedBody, ChunkError, EventStream

lines = st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), max_size=20)
events = st.lists(st.lists(lines, min_size=1, max_size=3).map("\n".join), max_size=6)
cuts = st.lists(st.integers(0, 500), max_size=20)


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    """``data`` in several parts."""
    at = sorted({min(cut, len(data)) for cut in cuts} | {0, len(data)})
    return [data[a:b] for a, b in pairwise(at)]


@given(events, cuts, st.sampled_from(["\n", "\r\n", "\r"]))
def test_events_come_out_however_the_bytes_are_cut(told: list[str], cuts: list[int], end: str) -> None:
    written = "".join(
        "".join(f"data: {line}{end}" for line in event.split("\n")) + f": keepalive{end}id: 7{end}{end}"
        for event in told
    )
    stream = EventStream()
    heard = [event for piece in pieces(written.encode() + b"\n", cuts) for event in stream.feed(piece)]
    assert heard == told


def test_an_event_is_told_when_it_is_complete() -> None:
    stream = EventStream()
    assert stream.feed(b'data: {"a": 1}\n') == []
    assert stream.feed(b"\nda") == ['{"a": 1}']
    assert stream.feed(b"ta:[DONE]\n\n") == ["[DONE]"]


def test_comments_are_no_events() -> None:
    assert EventStream().feed(b": keepalive 10/20\n\nretry: 10\n\n") == []


@given(st.lists(st.binary(min_size=1, max_size=30), max_size=6), cuts)
def test_a_chunked_body_comes_out_however_the_bytes_are_cut(chunks: list[bytes], cuts: list[int]) -> None:
    written = b"".join(b"%x;ext=1\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"
    body = ChunkedBody()
    assert b"".join(body.feed(piece) for piece in pieces(written, cuts)) == b"".join(chunks)
    assert body.ended


def test_a_body_without_sizes_is_refused() -> None:
    with pytest.raises(ChunkError, match="not a chunk size"):
        ChunkedBody().feed(b"data: 1\r\n\r\n")
