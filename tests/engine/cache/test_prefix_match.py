"""The usable length of a cached prompt is that of the plainest computation. Pure."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mlx_sidecar.engine.cache.prefix_match import LEAST_TOKENS, CacheSpec, Piece, usable
from mlx_sidecar.engine.cache.segment import BLOCK

FULL = CacheSpec((None,))


@st.composite
def pieces_of_a_prompt(draw: st.DrawFn, spans: int) -> list[Piece]:
    """Pieces that follow each other from token 0, each with a beginning of its own in each span."""
    pieces: list[Piece] = []
    start = 0
    for number in range(draw(st.integers(0, 5))):
        blocks = draw(st.integers(1, 4))
        stop = start + blocks * BLOCK
        if draw(st.booleans()):
            stop -= draw(st.integers(0, BLOCK - 1))
        firsts = tuple(draw(st.integers(start, stop)) if draw(st.booleans()) else start for _ in range(spans))
        pieces.append(Piece(number, start, stop, firsts, checkpointed=draw(st.booleans())))
        if stop % BLOCK:
            break
        start = stop
    return pieces


def can_go_on(pieces: list[Piece], spec: CacheSpec, position: int) -> bool:
    """Token by token, span by span."""
    for span, window in enumerate(spec.window):
        held = {at for piece in pieces for at in range(max(piece.start, piece.firsts[span]), piece.stop)}
        if not held.issuperset(range(0 if window is None else max(0, position - window), position)):
            return False
    return not spec.checkpoints or any(piece.checkpointed and piece.stop == position for piece in pieces)


@given(st.data())
def test_what_is_usable_is_the_furthest_position_from_which_all_that_is_seen_is_there(data: st.DataObject) -> None:
    window = data.draw(st.lists(st.none() | st.integers(1, 150), min_size=1, max_size=3))
    spec = CacheSpec(tuple(window), checkpoints=data.draw(st.booleans()))
    pieces = data.draw(pieces_of_a_prompt(len(window)))
    end = pieces[-1].stop if pieces else 0
    most = data.draw(st.integers(0, end + 10))
    furthest = min(end, most)
    # Within a block only the end of what is asked for, or of what is there, is tried.
    positions = [p for p in range(LEAST_TOKENS, furthest + 1) if spec.checkpoints or p % BLOCK == 0 or p == furthest]
    expected = max((p for p in positions if can_go_on(pieces, spec, p)), default=0)
    assert usable(pieces, spec, most) == expected


def test_nothing_is_usable_of_nothing() -> None:
    assert usable([], FULL, 100) == 0


def test_a_few_tokens_are_not_worth_a_copy() -> None:
    assert usable([Piece(0, 0, 64, (0,))], FULL, LEAST_TOKENS - 1) == 0
    assert usable([Piece(0, 0, 64, (0,))], FULL, LEAST_TOKENS) == LEAST_TOKENS


def test_a_window_needs_only_what_it_sees() -> None:
    pieces = [Piece(0, 0, 128, (0, 128)), Piece(1, 128, 192, (128, 160))]
    assert usable(pieces, CacheSpec((None, 32)), 192) == 192
    assert usable(pieces, CacheSpec((None, 33)), 192) == 0


def test_a_state_can_be_gone_on_from_only_at_a_checkpoint() -> None:
    pieces = [Piece(0, 0, 128, (0,), checkpointed=True), Piece(1, 128, 256, (128,))]
    assert usable(pieces, CacheSpec((None,), checkpoints=True), 256) == 128
