"""Answers go out behind the text of their streams: when a stream ends its name is free, so its text must be out."""

from __future__ import annotations

from mlx_sidecar.front.wire.mailbox import Mailbox
from mlx_sidecar.front.wire.responses import BatchReply, Nowhere

A_DAY_S = 86_400.0


class Said:
    """A stream with things to say."""

    def __init__(self, *texts: bytes) -> None:
        self._texts = list(texts)

    def take(self) -> bytes | None:
        return self._texts.pop(0) if self._texts else None


def waiting(mailbox: Mailbox, *texts: bytes) -> Said:
    """A stream with a host that wants its next delta tomorrow."""
    stream = Said(*texts)
    mailbox.announce(stream, mailbox_now() + A_DAY_S)
    return stream


def mailbox_now() -> float:
    return 1.0


def mailbox() -> Mailbox:
    return Mailbox(clock=mailbox_now)


def test_a_notification_is_not_answered_and_what_its_stream_had_to_say_goes_out() -> None:
    box = mailbox()
    stream = waiting(box, b"last delta")
    assert box.drain(1000) == []
    Nowhere(box).put(b"answer", [stream])
    assert box.drain(1000) == [b"last delta"]


def test_a_notification_without_a_stream_writes_nothing() -> None:
    box = mailbox()
    Nowhere(box).put(b"answer")
    assert box.drain(1000) == []


def test_what_a_stream_of_a_batch_had_to_say_does_not_wait_for_the_array() -> None:
    box = mailbox()
    stream = waiting(box, b"last delta")
    reply = BatchReply(box)
    first, second = reply.slot(), reply.slot()
    reply.started()
    first.put(b"1", [stream])
    assert box.drain(1000) == [b"last delta"]
    second.put(b"2")
    assert box.drain(1000) == [b"[1,2]"]
