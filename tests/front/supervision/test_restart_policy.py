"""The restart policy bounds how often an engine is started again."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mlx_sidecar.front.supervision.restart_policy import LOADS, REST_S, Life, RestartPolicy

LIVES = st.lists(st.sampled_from(Life), max_size=60)


def delays(*lives: Life) -> list[float | None]:
    restarts = RestartPolicy()
    return [restarts.died(life, 0.0) for life in lives]


def test_engines_that_do_nothing_are_given_up_after_the_fifth() -> None:
    assert delays(*[Life.USELESS] * 5) == [0.0, 0.1, 0.2, 0.4, None]


def test_engines_that_only_load_are_given_up_too_but_later() -> None:
    assert delays(*[Life.LOADED] * LOADS) == [0.0] * (LOADS - 1) + [None]


@given(LIVES)
def test_after_an_engine_that_got_something_done_all_is_as_in_the_beginning(lives: list[Life]) -> None:
    after = delays(*lives, Life.USEFUL, *lives)[len(lives) :]
    assert after == [0.0, *delays(*lives)]


@given(LIVES)
def test_who_gives_up_has_seen_many_deaths_and_nothing_done(lives: list[Life]) -> None:
    restarts = RestartPolicy()
    in_a_row = 0
    for life in lives:
        in_a_row = 0 if life is Life.USEFUL else in_a_row + 1
        delay_s = restarts.died(life, 0.0)
        if delay_s is None:
            assert in_a_row >= 5
        assert restarts.in_a_row <= in_a_row


@given(st.integers(0, 50))
def test_without_anything_done_starts_come_to_an_end(loads: int) -> None:
    lives = [Life.LOADED] * loads + [Life.USELESS] * 5
    assert delays(*lives)[-1] is None


@given(st.floats(0, 1e9))
def test_a_while_after_giving_up_one_may_try(now: float) -> None:
    restarts = RestartPolicy()
    for _ in range(5):
        restarts.died(Life.USELESS, now)
    assert not restarts.may_try(now)
    assert restarts.may_try(now + REST_S + 1.0)
    assert restarts.died(Life.USELESS, now + REST_S + 1.0) is None
    assert not restarts.may_try(now + REST_S + 1.0)
