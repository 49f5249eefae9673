"""The outbox brings the front the step loop's messages."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import Protocol

from ..link.messages import ToFront
from .refusals import encoded


class Outbox(Protocol):
    """The step loop leaves its messages for the front here."""

    def send(self, messages: Sequence[ToFront]) -> None:
        """Send ``messages`` to the front, in this order. Raises ConnectionError if the front is gone."""


class LinkOutbox:
    """Writes each message to the link as one frame, all messages of a call in one write."""

    def __init__(self, link: socket.socket) -> None:
        self._link = link

    def send(self, messages: Sequence[ToFront]) -> None:
        # Blocking is right: the front reads whatever its host does, and a link that is gone ends this process.
        if messages:
            self._link.sendall(b"".join(map(encoded, messages)))
