"""The merging mailbox: order, numbers and memory, whatever the interleaving."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from mlx_sidecar.front.wire.mailbox import Mailbox

ALL = 10**9


class Talker:
    """A stream that says all it has in numbered frames of at most ``width`` characters."""

    def __init__(self, name: str, width: int = 1000) -> None:
        self.name = name
        self.width = width
        self.unsaid = ""
        self.said = ""
        self.seq = 0

    def take(self) -> bytes | None:
        if not self.unsaid:
            return None
        text, self.unsaid = self.unsaid[: self.width], self.unsaid[self.width :]
        self.said += text
        self.seq += 1
        return f"{self.name} {self.seq - 1} {text}".encode()


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_control_messages_keep_their_order() -> None:
    mailbox = Mailbox()
    for number in range(5):
        mailbox.put(b"%d" % number)
    assert mailbox.drain(ALL) == [b"0", b"1", b"2", b"3", b"4"]
    assert mailbox.drain(ALL) == []


def test_text_that_arrives_while_nobody_reads_is_one_delta() -> None:
    mailbox, talker = Mailbox(), Talker("a")
    for word in ("one ", "two ", "three"):
        talker.unsaid += word
        mailbox.announce(talker)
    mailbox.put(b"answer", after=[talker])
    assert mailbox.drain(ALL) == [b"a 0 one two three", b"answer"]


def test_a_long_delta_is_cut_into_frames_and_the_answer_waits_for_the_last() -> None:
    mailbox, talker = Mailbox(), Talker("a", width=2)
    talker.unsaid = "abcde"
    mailbox.announce(talker)
    mailbox.put(b"answer", after=[talker])
    drained = [mailbox.drain(1) for _ in range(4)]
    assert drained == [[b"a 0 ab"], [b"a 1 cd"], [b"a 2 e"], [b"answer"]]


def test_an_answer_made_late_sees_the_number_of_the_last_delta() -> None:
    mailbox, talker = Mailbox(), Talker("a")
    talker.unsaid = "text"
    mailbox.announce(talker)
    mailbox.put(lambda: b"last %d" % (talker.seq - 1), after=[talker])
    assert mailbox.drain(ALL) == [b"a 0 text", b"last 0"]


def test_a_stream_that_asked_for_time_waits_and_others_do_not() -> None:
    clock = Clock()
    mailbox, slow, quick = Mailbox(clock), Talker("slow"), Talker("quick")
    slow.unsaid, quick.unsaid = "s", "q"
    mailbox.announce(slow, not_before=clock.now + 5)
    mailbox.announce(quick)
    assert mailbox.drain(ALL) == [b"quick 0 q"]
    assert mailbox.next_due == clock.now + 5
    slow.unsaid += "t"
    mailbox.announce(slow)
    clock.now += 5
    assert mailbox.drain(ALL) == [b"slow 0 st"]
    assert mailbox.next_due is None


@pytest.mark.parametrize("ending", ["answer", "close"])
def test_the_end_of_a_stream_does_not_wait(ending: str) -> None:
    mailbox, slow = Mailbox(Clock()), Talker("slow")
    slow.unsaid = "s"
    mailbox.announce(slow, not_before=2000.0)
    if ending == "answer":
        mailbox.put(b"answer", after=[slow])
        assert mailbox.drain(ALL) == [b"slow 0 s", b"answer"]
    else:
        mailbox.close()
        assert mailbox.drain(ALL) == [b"slow 0 s"]


def test_a_stalled_host_costs_text_and_not_messages() -> None:
    mailbox, talker = Mailbox(), Talker("a")
    for _ in range(100_000):
        talker.unsaid += "x"
        mailbox.announce(talker)
    assert len(mailbox._queue) == 1
    assert mailbox.waiting_bytes == 0


def test_a_message_that_cannot_be_made_does_not_silence_the_others(caplog: pytest.LogCaptureFixture) -> None:
    class Broken:
        def take(self) -> bytes | None:
            raise ValueError("broken stream")

    def fail() -> bytes:
        raise ValueError("broken answer")

    mailbox, broken = Mailbox(), Broken()
    mailbox.announce(broken)
    mailbox.put(fail)
    mailbox.put(b"fine")
    assert mailbox.drain(ALL) == [b"fine"]
    assert [record.exc_text is not None for record in caplog.records] == [True, True]
    mailbox.announce(broken)
    assert len(mailbox._queue) == 1


def test_work_is_reported_once_until_it_has_been_drained() -> None:
    mailbox = Mailbox()
    calls: list[str] = []
    mailbox.on_work = lambda: calls.append("work")
    mailbox.put(b"1")
    mailbox.put(b"2")
    assert len(calls) == 1
    mailbox.drain(ALL)
    mailbox.put(b"3")
    assert len(calls) == 2


def test_what_is_left_by_a_bounded_drain_needs_no_second_report() -> None:
    mailbox = Mailbox()
    calls: list[str] = []
    mailbox.on_work = lambda: calls.append("work")
    mailbox.put(b"12345")
    mailbox.put(b"6")
    assert mailbox.drain(1) == [b"12345"]
    mailbox.put(b"7")
    assert len(calls) == 1
    assert mailbox.drain(ALL) == [b"6", b"7"]


def test_a_closed_mailbox_takes_nothing_and_a_discarded_one_holds_nothing() -> None:
    mailbox, talker = Mailbox(), Talker("a")
    mailbox.put(b"1")
    mailbox.close()
    mailbox.put(b"2")
    talker.unsaid = "x"
    mailbox.announce(talker)
    assert mailbox.drain(ALL) == [b"1"]
    other = Mailbox()
    other.put(b"1")
    other.discard()
    assert other.drain(ALL) == []
    assert other.waiting_bytes == 0


class AnyInterleaving(RuleBasedStateMachine):
    """Puts, announcements, endings, drains and time in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.mailbox = Mailbox(self.clock)
        self.talkers = [Talker(name, width) for name, width in (("a", 3), ("b", 1000), ("c", 1))]
        self.spoken = {talker.name: "" for talker in self.talkers}
        self.controls = 0
        self.out: list[bytes] = []
        self.waiting: list[int] = []  # sizes, in order, of the control messages that have not been taken
        self.collected = 0

    @rule()
    def put(self) -> None:
        body = b"control %d" % self.controls
        self.mailbox.put(body)
        self.waiting.append(len(body))
        self.controls += 1

    @rule(index=st.integers(0, 2), text=st.text("xyz", min_size=1, max_size=5), delay=st.sampled_from([0.0, 1.0, 2.0]))
    def speak(self, index: int, text: str, delay: float) -> None:
        talker = self.talkers[index]
        talker.unsaid += text
        self.spoken[talker.name] += text
        self.mailbox.announce(talker, self.clock.now + delay if delay else 0.0)

    @rule(index=st.integers(0, 2), held_bytes=st.integers(0, 100))
    def answer(self, index: int, held_bytes: int) -> None:
        talker, so_far = self.talkers[index], len(self.spoken[self.talkers[index].name])

        def late() -> bytes:
            assert len(talker.said) >= so_far, "the answer overtook its stream"
            return b"control %d" % number

        number = self.controls
        self.controls += 1
        self.mailbox.put(late, after=[talker], held_bytes=held_bytes)
        self.waiting.append(held_bytes)

    @rule(more_bytes=st.integers(-50, 50))
    def collect(self, more_bytes: int) -> None:
        self.mailbox.collect(more_bytes)
        self.collected += more_bytes

    @rule(limit=st.integers(1, 30))
    def drain(self, limit: int) -> None:
        self.take(self.mailbox.drain(limit))

    def take(self, bodies: list[bytes]) -> None:
        self.out += bodies
        del self.waiting[: sum(body.startswith(b"control") for body in bodies)]

    @rule()
    def wait(self) -> None:
        self.clock.now += 1

    @invariant()
    def at_most_one_turn_per_stream(self) -> None:
        assert len(self.mailbox._turns) + len(self.mailbox._delayed) <= len(self.talkers)

    @invariant()
    def what_waits_is_counted(self) -> None:
        assert self.mailbox.waiting_bytes == sum(self.waiting)
        assert self.mailbox.collected_bytes == self.collected

    def teardown(self) -> None:
        self.mailbox.close()
        self.take(self.mailbox.drain(ALL))
        controls = [body for body in self.out if body.startswith(b"control")]
        assert controls == [b"control %d" % number for number in range(self.controls)]
        for talker in self.talkers:
            frames = [body.split(b" ", 2) for body in self.out if body.startswith(talker.name.encode() + b" ")]
            assert [int(frame[1]) for frame in frames] == list(range(len(frames)))
            assert b"".join(frame[2] for frame in frames).decode() == self.spoken[talker.name]
        assert self.mailbox.waiting_bytes == 0


TestAnyInterleaving = AnyInterleaving.TestCase
