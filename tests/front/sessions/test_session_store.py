"""Sessions are trees of turns that share what came before them; the store counts their bytes and evicts none."""

from __future__ import annotations

from array import array
from collections.abc import Callable

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from mlx_sidecar.front.sessions.session import Session, Shared
from mlx_sidecar.front.sessions.store import SessionStore, new_id
from mlx_sidecar.front.sessions.turn import Turn
from mlx_sidecar_protocol.errors import InvalidParams, Overloaded, UnknownSession

SHARED = Shared("m", None, None)


def child(parent: Turn, tokens: list[int], shared: int | None = None) -> Turn:
    kept = parent.length if shared is None else shared
    answer = b'{"role":"assistant","content":"a"}'
    return Turn(new_id("turn"), parent, b'[{"role":"user"}]', answer, kept, array("I", tokens), 1)


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


class Trees(RuleBasedStateMachine):
    """Sessions beside a model that copies: for each session the whole tokens of each of its turns."""

    def __init__(self) -> None:
        super().__init__()
        self.store = SessionStore(100, 10**9)
        self.model: dict[str, dict[str, list[int]]] = {}
        self.parents: dict[str, str] = {}
        self.open: dict[str, Session] = {}

    sessions = Bundle("sessions")

    @rule(target=sessions)
    def open_one(self) -> str:
        base = Turn(new_id("turn"))
        session = self.store.open(SHARED, base, None)
        self.store.counted(base)
        self.open[session.id] = session
        self.model[session.id] = {base.id: []}
        return session.id

    @rule(
        id_=sessions, pick=st.integers(0), tokens=st.lists(st.integers(0, 9), min_size=1, max_size=5), cut=st.booleans()
    )
    def add(self, id_: str, pick: int, tokens: list[int], cut: bool) -> None:
        if id_ not in self.open:
            return
        session = self.open[id_]
        parent = session.turn(self.picked(id_, pick), "at")
        shared = parent.length // 2 if cut else parent.length
        turn = child(parent, tokens, shared)
        assert session.add(turn)
        self.store.counted(turn)
        self.model[id_][turn.id] = self.model[id_][parent.id][:shared] + tokens
        self.parents[turn.id] = parent.id

    @rule(target=sessions, id_=sessions, pick=st.integers(0))
    def fork(self, id_: str, pick: int) -> str:
        if id_ not in self.open:
            return id_
        at = self.picked(id_, pick)
        fork = self.store.open(SHARED, self.open[id_].turn(at, "at"), None)
        self.open[fork.id] = fork
        self.model[fork.id] = {turn: self.model[id_][turn] for turn in self.way(at)}
        return fork.id

    @rule(id_=sessions, pick=st.integers(0))
    def roll_back(self, id_: str, pick: int) -> None:
        if id_ not in self.open:
            return
        session, to = self.open[id_], self.picked(id_, pick)
        gone = {turn for turn in self.model[id_] if turn != to and to in self.way(turn)}
        told = session.behind(session.turn(to, "to"))
        assert {turn.id for turn in told} == gone
        assert session.roll_back(session.turn(to, "to")) == told
        assert session.latest.id == to
        for turn in gone:
            del self.model[id_][turn]

    @rule(id_=sessions)
    def close(self, id_: str) -> None:
        if self.open.pop(id_, None) is not None:
            self.store.close(self.store.find(id_))
            del self.model[id_]
            with pytest.raises(UnknownSession):
                self.store.find(id_)

    @invariant()
    def each_session_has_its_turns_with_all_their_tokens(self) -> None:
        for id_, turns in self.model.items():
            found = {turn.id: turn.prompt_and_answer().tolist() for turn in self.open[id_].turns}
            assert found == turns

    @invariant()
    def a_turn_is_counted_once_however_many_sessions_have_it(self) -> None:
        turns = {turn.id: turn for session in self.open.values() for turn in session.turns}
        assert self.store.held_bytes == sum(turn.nbytes for turn in turns.values())

    def picked(self, id_: str, pick: int) -> str:
        return list(self.model[id_])[pick % len(self.model[id_])]

    def way(self, turn: str) -> list[str]:
        way = [turn]
        while way[-1] in self.parents:
            way.append(self.parents[way[-1]])
        return way


TestTrees = Trees.TestCase
TestTrees.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)


def opened(store: SessionStore, ttl_s: float | None = None) -> Session:
    return store.open(SHARED, Turn(new_id("turn")), ttl_s)


def test_at_the_limit_another_session_is_refused_and_all_there_are_stay() -> None:
    store = SessionStore(2, 10**6)
    kept = [opened(store), opened(store)]
    with pytest.raises(Overloaded) as refused:
        opened(store)
    assert (refused.value.details["unit"], refused.value.details["limit"]) == ("sessions", 2)
    assert [store.find(session.id) for session in kept] == kept


def test_bytes_that_are_reserved_count_until_they_are_given_back() -> None:
    store = SessionStore(2, 1000)
    give_back = store.reserve(900)
    with pytest.raises(Overloaded) as refused:
        store.reserve(200)
    assert refused.value.details["unit"] == "bytes"
    give_back()
    store.reserve(200)


def test_a_session_expires_when_nothing_has_used_it_for_its_time() -> None:
    clock = Clock()
    store = SessionStore(2, 10**6, clock)
    used, unused, running = opened(store, 10), opened(store, 10), None
    clock.now_s = 9
    store.find(used.id)
    clock.now_s = 11
    assert store.find(used.id) is used
    with pytest.raises(UnknownSession):
        store.find(unused.id)
    running = opened(store, 10)
    running.running = 1
    clock.now_s = 100
    assert store.find(running.id) is running
    assert len(store) == 1


def test_room_is_made_by_those_that_have_expired_alone() -> None:
    clock = Clock()
    store = SessionStore(2, 10**6, clock)
    lasting, _ = opened(store), opened(store, 10)
    with pytest.raises(Overloaded) as refused:
        opened(store)
    assert refused.value.details["retry_after_s"] == 10
    clock.now_s = 10
    opened(store)
    assert store.find(lasting.id) is lasting


def test_an_unknown_turn_is_refused_by_the_name_of_its_field() -> None:
    session = opened(SessionStore(1, 10**6))
    with pytest.raises(InvalidParams) as refused:
        session.turn("turn_of_another", "at")
    assert refused.value.details["errors"][0]["loc"] == ["at"]


def test_a_turn_whose_parent_was_rolled_back_meanwhile_is_not_taken_in() -> None:
    session = opened(SessionStore(1, 10**6))
    parent = child(session.base, [1])
    session.add(parent)
    session.roll_back(session.base)
    assert not session.add(child(parent, [2]))
    assert session.turns == [session.base]


@pytest.mark.parametrize(
    "end", [lambda store, session: store.close(session), lambda _, session: session.roll_back(session.base)]
)
def test_a_chat_of_ten_thousand_turns_goes_without_a_trace(end: Callable[[SessionStore, Session], object]) -> None:
    store = SessionStore(1, 10**9)
    session = opened(store)
    for number in range(10_000):
        session.add(child(session.latest, [number]))
        store.counted(session.latest)
    assert session.latest.prompt_and_answer().tolist() == list(range(10_000))
    end(store, session)
    del session
    assert store.held_bytes == 0
