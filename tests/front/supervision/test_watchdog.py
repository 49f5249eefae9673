"""When an engine is taken for hung."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mlx_sidecar.front.supervision.watchdog import LONGEST_LOOK_S, Watchdog
from mlx_sidecar.link.heartbeat_page import Snapshot

FLOOR_S = 10.0
PAUSES = st.floats(0.01, 1e6)
BUSY = [Snapshot(taken=1, operating=True, bound_s=25.0, kind="step", ids=(3,)), Snapshot(taken=1)]
BUSY += [Snapshot(taken=2, kind="step", ids=(3,))]  # between two operations


@given(st.lists(st.tuples(PAUSES, st.integers(0, 3), st.booleans())))
def test_it_never_fires_while_anything_moves(looks: list[tuple[float, int, bool]]) -> None:
    dog, now = Watchdog(FLOOR_S), 0.0
    for number, (pause_s, behind, operating) in enumerate(looks):
        now += pause_s
        assert not dog.look(Snapshot(operations=number, operating=operating, bound_s=0.0), behind, now)
        assert dog.still_s == 0.0


@given(st.lists(PAUSES))
def test_it_never_fires_for_an_engine_with_nothing_to_do(pauses: list[float]) -> None:
    dog, now = Watchdog(FLOOR_S), 0.0
    for pause_s in pauses:
        now += pause_s
        assert not dog.look(Snapshot(taken=5), 5, now)


@given(st.sampled_from(BUSY), st.floats(0.05, LONGEST_LOOK_S), st.floats(0, 1e6))
def test_it_fires_once_nothing_has_moved_for_longer_than_the_bound(seen: Snapshot, every_s: float, now: float) -> None:
    dog = Watchdog(FLOOR_S)
    bound_s = seen.bound_s if seen.operating else FLOOR_S
    looks = 0
    while not dog.look(seen, 2, now + looks * every_s):
        assert dog.still_s <= bound_s
        looks += 1
        assert looks * every_s < 2 * bound_s + every_s
    assert dog.still_s > bound_s == dog.bound_s


@given(st.sampled_from(BUSY), st.floats(FLOOR_S, 1e6))
def test_a_front_that_slept_itself_blames_nobody(seen: Snapshot, slept_s: float) -> None:
    dog = Watchdog(FLOOR_S)
    assert not dog.look(seen, 2, 0.0)
    assert not dog.look(seen, 2, slept_s)
    assert dog.still_s <= LONGEST_LOOK_S


@given(st.sampled_from(BUSY))
def test_what_moves_again_has_all_its_time_again(seen: Snapshot) -> None:
    dog = Watchdog(FLOOR_S)
    for now in range(9):
        assert not dog.look(seen, 2, float(now))
    assert not dog.look(seen._replace(operations=1), 2, 9.0)
    assert dog.still_s == 0.0
