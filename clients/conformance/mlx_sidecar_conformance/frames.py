"""Reads and writes frames in both framings: one JSON text a line, or ``Content-Length`` headers."""

from __future__ import annotations

import array
import fcntl
import json
import os
import re
import stat
import termios
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

PATIENCE_S = 1.0  # for a client to read a piece of a frame; it may have reasons not to

_LENGTH = re.compile(rb"content-length:\s*(\d+)", re.IGNORECASE)


def encoded(frame: Any, with_headers: bool = False, ascii_only: bool = False) -> bytes:
    """``frame`` as bytes; ``ascii_only`` escapes all other characters, and adds spaces."""
    separators = (" , ", " : ") if ascii_only else (",", ":")
    body = json.dumps(frame, ensure_ascii=ascii_only, separators=separators).encode()
    return b"Content-Length: %d\r\n\r\n%b" % (len(body), body) if with_headers else body + b"\n"


def frames(pipe: int) -> Iterator[tuple[bytes, bytes]]:
    """Each frame as it came, and its body, in the framing that the first byte shows."""
    buffer = b""
    while data := os.read(pipe, 1 << 16):
        buffer += data
        while found := cut(buffer):
            raw, body = found
            buffer = buffer[len(raw) :]
            if body.strip():
                yield raw, body


def cut(buffer: bytes) -> tuple[bytes, bytes] | None:
    """The first frame of ``buffer``, with and without its framing; None while it is not whole."""
    if buffer[:1] in (b"c", b"C"):
        head, blank, rest = buffer.partition(b"\r\n\r\n")
        length = _LENGTH.search(head)
        if not blank or length is None or len(rest) < int(length[1]):
            return None
        size = int(length[1])
        return buffer[: len(head) + 4 + size], rest[:size]
    line, end, _ = buffer.partition(b"\n")
    return (line + end, line) if end else None


def write_all(pipe: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(pipe, view) :]


def is_cut(data: bytes, at: int) -> bool:
    """Whether position ``at`` is inside a character of ``data``."""
    return data[at : at + 1] != b"" and data[at] & 0xC0 == 0x80


def wait_until_read(pipe: int) -> None:
    """Wait until the other end has read all data, at most ``PATIENCE_S``; not at all if the system cannot tell."""
    question = termios.FIONREAD if stat.S_ISFIFO(os.fstat(pipe).st_mode) else termios.TIOCOUTQ
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        answer = array.array("i", [0])
        with suppress(OSError):
            fcntl.ioctl(pipe, question, answer)
        if answer[0] == 0:
            return
        time.sleep(0.0002)
