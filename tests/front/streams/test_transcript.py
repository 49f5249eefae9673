"""The transcript: whatever is appended, and however it is read, every character and token comes out once, in order."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mlx_sidecar.front.output.parser import PlainText, Segment
from mlx_sidecar.front.streams.transcript import Transcript

appends = st.lists(st.tuples(st.text(max_size=9000), st.lists(st.integers(0, 2**31 - 1), max_size=5)), max_size=12)


def plain(text: str) -> list[Segment]:
    return PlainText().push(text, [])


def read_all(transcript: Transcript) -> tuple[str, list[int]]:
    text = ""
    tokens: list[int] = []
    while (len(text), len(tokens)) != transcript.published:
        read = transcript.read(len(text), len(tokens))
        more, ids = read.text, read.tokens
        assert more or ids
        text += more
        tokens += ids
    return text, tokens


@given(appends)
def test_reading_in_pieces_gives_exactly_what_was_appended(parts: list[tuple[str, list[int]]]) -> None:
    transcript = Transcript()
    for text, tokens in parts:
        transcript.append(plain(text), tokens)
    expected = "".join(text for text, _ in parts), [token for _, tokens in parts for token in tokens]
    assert read_all(transcript) == expected
    assert (transcript.text, transcript.tokens) == expected


@given(appends)
def test_a_reader_that_keeps_up_sees_the_same_as_one_that_comes_late(parts: list[tuple[str, list[int]]]) -> None:
    transcript = Transcript()
    text = ""
    tokens: list[int] = []
    for added in parts:
        transcript.append(plain(added[0]), added[1])
        read = transcript.read(len(text), len(tokens))
        more, ids = read.text, read.tokens
        text += more
        tokens += ids
    while (len(text), len(tokens)) != transcript.published:
        read = transcript.read(len(text), len(tokens))
        more, ids = read.text, read.tokens
        text += more
        tokens += ids
    assert (text, tokens) == read_all(transcript)


@given(st.lists(st.text(min_size=1, max_size=3), min_size=1, max_size=50), st.integers(0, 60))
def test_a_token_is_never_read_before_the_text_that_it_completed(pieces: list[str], start: int) -> None:
    transcript = Transcript()
    for number, piece in enumerate(pieces):
        transcript.append(plain(piece), [number])
    start = min(start, len("".join(pieces)))
    before = next(n for n in range(len(pieces) + 1) if n == len(pieces) or len("".join(pieces[: n + 1])) > start)
    read = transcript.read(start, before)
    assert start + len(read.text) >= len("".join(pieces[: before + len(read.tokens)]))


def test_one_read_stays_small_however_much_waits() -> None:
    transcript = Transcript()
    transcript.append(plain("x" * 1_000_000), list(range(200_000)))
    read = transcript.read(0, 0)
    assert 0 < len(read.text) <= 4096
    assert len(read.tokens) <= 4096
