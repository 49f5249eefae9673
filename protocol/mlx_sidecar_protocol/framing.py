"""Cuts a byte stream into messages, and frames messages, by lines or by Content-Length headers.

``FrameDecoder`` takes bytes in any split. Its time is linear in them, and it holds at most one message.
"""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

from .errors import FrameTooLarge, InvalidRequest, ParseError, RpcError
from .limits import DEFAULT_LIMITS, Limits

Framing = Literal["lines", "headers"]

_BOM = b"\xef\xbb\xbf"
_SPACE = b" \t\r\n"
# The header of nearly every host; others are read line by line.
_USUAL_HEADER = re.compile(rb"Content-Length: ([0-9]{1,15})\r\n\r\n")
_DIGITS = re.compile(rb"[0-9]+")
_NAME = re.compile(rb"[!#-'*+.^_`|~0-9A-Za-z-]+")  # of a header: RFC 9110's token


class FrameFault(NamedTuple):
    """A message that could not be cut out; after a ``fatal`` one nothing more can be read."""

    error: RpcError
    fatal: bool = False


Frames = list[bytes | FrameFault]


def encode_frame(body: bytes, framing: Framing) -> bytes:
    """``body``, one JSON text without a raw newline, as one frame."""
    if framing == "lines":
        return body + b"\n"
    return b"Content-Length: %d\r\n\r\n%b" % (len(body), body)


class FrameDecoder:
    """Turns bytes into the bodies of messages, in order, with a ``FrameFault`` in place of a malformed one.

    With ``auto`` the first byte that is neither white space nor part of a BOM decides: ``c`` or ``C`` means headers.
    """

    def __init__(self, framing: Literal["auto", "lines", "headers"] = "auto", limits: Limits = DEFAULT_LIMITS) -> None:
        self._framing: Framing | None = None if framing == "auto" else framing
        self._forced: Framing | None = self._framing
        self._start: bytearray | None = bytearray()  # bytes from before the framing was known; None afterwards
        self._cutter: _Lines | _Headers = _Lines(limits)
        self._limits = limits

    @property
    def framing(self) -> Framing | None:
        """The framing in use; None until the first meaningful byte, even if the framing is forced."""
        return None if self._start is not None else self._framing

    def feed(self, data: bytes) -> Frames:
        """All messages that ``data`` completes."""
        if self._start is not None:
            data = self._detect(data)
        return self._cutter.feed(data) if data else []

    def close(self) -> Frames:
        """Messages completed by the end of input: a last line needs no newline, a partial frame is a fault."""
        if self._start is not None:
            rest, self._start = bytes(self._start.strip(_SPACE)), None
            self._framing = self._forced or "lines"
            return [rest] if rest else []  # part of a BOM, which will be refused as no message
        return self._cutter.close()

    def _detect(self, data: bytes) -> bytes:
        assert self._start is not None
        self._start += data
        if len(self._start) < len(_BOM) and _BOM.startswith(self._start):
            return b""  # may become a BOM
        if self._start.startswith(_BOM):
            del self._start[: len(_BOM)]
            self._start[:0] = b" "  # a second BOM is not one
        text = bytes(self._start.lstrip(_SPACE))
        if not text:
            self._start[:] = b" "
            return b""
        self._start = None
        found: Framing = "headers" if text[:1] in b"cC" else "lines"
        self._framing = self._forced or found
        self._cutter = _Headers(self._limits) if self._framing == "headers" else _Lines(self._limits)
        return text


class _Lines:
    """One JSON text per line. Only LF ends a line; blank lines mean nothing."""

    def __init__(self, limits: Limits) -> None:
        self._limit_bytes = limits.frame_bytes
        self._line = bytearray()
        self._skipping = False

    def feed(self, data: bytes) -> Frames:
        lines = data.split(b"\n")
        rest = lines.pop()
        frames: Frames = []
        if lines and (self._line or self._skipping):
            frames += self._grow(lines[0]) + self._end_line()
            del lines[0]
        if len(data) <= self._limit_bytes:
            frames += [line for line in lines if line and not line.isspace()]
        else:
            for line in lines:
                frames += self._grow(line) + self._end_line()
        return frames + self._grow(rest) if rest else frames

    def close(self) -> Frames:
        return self._end_line()

    def _grow(self, part: bytes) -> Frames:
        """Add to the unfinished line; a line over the limit is reported once, and its rest is dropped."""
        if self._skipping:
            return []
        self._line += part
        if len(self._line) <= self._limit_bytes:
            return []
        self._line.clear()
        self._skipping = True
        return [FrameFault(FrameTooLarge(limit_bytes=self._limit_bytes))]

    def _end_line(self) -> Frames:
        line = bytes(self._line)
        self._line.clear()
        self._skipping = False
        return [line] if line and not line.isspace() else []


class _Headers:
    """Content-Length framing. An unusable length is fatal, because the next message's start is unknown."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._buffer = bytearray()
        self._scanned = 0  # bytes at the front of the buffer known to hold no newline
        self._body_bytes: int | None = None  # None while in a header
        self._header: list[bytes] = []  # its values of Content-Length
        self._header_bytes = 0
        self._dead = False

    def feed(self, data: bytes) -> Frames:
        if self._dead:
            return []
        self._buffer += data
        frames: Frames = []
        try:
            at = self._cut(frames)
        except _Unusable as why:
            self._die()
            return [*frames, FrameFault(why.error, fatal=True)]
        del self._buffer[:at]
        self._scanned = max(0, self._scanned - at)
        return frames

    def close(self) -> Frames:
        begun = self._body_bytes is not None or self._header_bytes > 0 or bool(self._buffer.strip(_SPACE))
        if self._dead or not begun:
            return []
        self._die()
        return [FrameFault(ParseError("the input ended inside a message"), fatal=True)]

    def _die(self) -> None:
        self._dead = True
        self._buffer.clear()

    def _cut(self, frames: Frames) -> int:
        """Move all complete messages into ``frames``; returns the number of bytes used up."""
        buffer, at = self._buffer, 0
        while True:
            if self._body_bytes is None:
                usual = _USUAL_HEADER.match(buffer, at) if self._header_bytes == 0 else None
                if usual:
                    at = usual.end()
                    self._body_bytes = self._length([usual[1]])
                    continue
                newline = buffer.find(b"\n", max(at, self._scanned))
                if newline < 0:
                    return self._wait_for_newline(at)
                self._take_header_line(bytes(buffer[at : newline + 1]))
                at = newline + 1
            else:
                end = at + self._body_bytes
                if len(buffer) < end:
                    return at
                with memoryview(buffer) as view:
                    frames.append(bytes(view[at:end]))
                self._body_bytes = None
                at = end

    def _wait_for_newline(self, at: int) -> int:
        self._scanned = len(self._buffer)
        self._check_header_size(len(self._buffer) - at)
        return at

    def _take_header_line(self, line: bytes) -> None:
        text = line.strip(_SPACE)
        if not text and self._header_bytes == 0:
            return  # blank lines between messages
        self._check_header_size(len(line))
        self._header_bytes += len(line)
        if text:
            name, _, value = text.partition(b":")
            if not _NAME.fullmatch(name.rstrip(_SPACE)):
                # Skipped as an unknown header, a stray message would be lost, and its sender would wait.
                raise _Unusable(InvalidRequest("this is no header; Content-Length counts all bytes of a body"))
            if name.rstrip(_SPACE).lower() == b"content-length":
                self._header.append(value.strip(_SPACE))
            return
        self._body_bytes = self._length(self._header)
        self._header, self._header_bytes = [], 0

    def _check_header_size(self, more: int) -> None:
        if self._header_bytes + more > self._limits.header_bytes:
            raise _Unusable(InvalidRequest(f"the header is longer than {self._limits.header_bytes} bytes"))

    def _length(self, values: list[bytes]) -> int:
        """The length that all ``values`` agree on, in bytes."""
        if not values:
            raise _Unusable(InvalidRequest("the header has no Content-Length"))
        if len(set(values)) > 1 or not _DIGITS.fullmatch(values[0]):
            raise _Unusable(InvalidRequest("Content-Length is not one number of bytes"))
        digits = values[0].lstrip(b"0") or b"0"
        limit = self._limits.frame_bytes
        if len(digits) > len(str(limit)) or int(digits) > limit:
            raise _Unusable(FrameTooLarge(limit_bytes=limit))
        return int(digits)


class _Unusable(Exception):
    def __init__(self, error: RpcError) -> None:
        super().__init__(error.message)
        self.error = error
