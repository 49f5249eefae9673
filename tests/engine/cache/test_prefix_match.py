"""How much of a prompt can be gone on from: pure, against the plainest way to say it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mlx_sidecar.engine.cache.prefix_match import LEAST_TOKENS, Needs, Piece, usable
from mlx_sidecar.engine.cache.segment import BLOCK

FULL = Needs((None,))


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
        pieces.append(Piece(number, start, stop, firsts, marked=draw(st.booleans())))
        if stop % BLOCK:
            break
        start = stop
    return pieces


def can_go_on(pieces: list[Piece], needs: Needs, position: int) -> bool:
    """Token by token, span by span."""
    for span, sees in enumerate(needs.sees):
        held = {at for piece in pieces for at in range(max(piece.start, piece.firsts[span]), piece.stop)}
        if not held.issuperset(range(0 if sees is None else max(0, position - sees), position)):
            return False
    return not needs.marks or any(piece.marked and piece.stop == position for piece in pieces)


@given(st.data())
def test_what_is_usable_is_the_furthest_position_from_which_all_that_is_seen_is_there(data: st.DataObject) -> None:
    sees = data.draw(st.lists(st.none() | st.integers(1, 150), min_size=1, max_size=3))
    needs = Needs(tuple(sees), marks=data.draw(st.booleans()))
    pieces = data.draw(pieces_of_a_prompt(len(sees)))
    end = pieces[-1].stop if pieces else 0
    most = data.draw(st.integers(0, end + 10))
    furthest = min(end, most)
    # Within a block only the end of what is asked for, or of what is there, is tried.
    positions = [p for p in range(LEAST_TOKENS, furthest + 1) if needs.marks or p % BLOCK == 0 or p == furthest]
    expected = max((p for p in positions if can_go_on(pieces, needs, p)), default=0)
    assert usable(pieces, needs, most) == expected


def test_nothing_is_usable_of_nothing() -> None:
    assert usable([], FULL, 100) == 0


def test_a_few_tokens_are_not_worth_a_copy() -> None:
    assert usable([Piece(0, 0, 64, (0,))], FULL, LEAST_TOKENS - 1) == 0
    assert usable([Piece(0, 0, 64, (0,))], FULL, LEAST_TOKENS) == LEAST_TOKENS


def test_a_window_needs_only_what_it_sees() -> None:
    pieces = [Piece(0, 0, 128, (0, 128)), Piece(1, 128, 192, (128, 160))]
    assert usable(pieces, Needs((None, 32)), 192) == 192
    assert usable(pieces, Needs((None, 33)), 192) == 0


def test_a_state_can_be_gone_on_from_only_where_it_was_marked() -> None:
    pieces = [Piece(0, 0, 128, (0,), marked=True), Piece(1, 128, 256, (128,))]
    assert usable(pieces, Needs((None,), marks=True), 256) == 128
