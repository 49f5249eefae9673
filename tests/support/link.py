"""The link as tests read it: all that comes must fit its struct."""

from __future__ import annotations

from typing import TypeVar, cast

from mlx_sidecar.link.codec import Decoder, Unreadable

T = TypeVar("T")


def feed(decoder: Decoder[T], data: bytes) -> list[T]:
    """The messages that ``data`` completes, none of which is unreadable."""
    messages = decoder.feed(data)
    assert not any(isinstance(message, Unreadable) for message in messages), messages
    return cast("list[T]", messages)
