"""Our standard input and output are claimed for the wire at once, so that a stray print anywhere harms nothing.

Imports nothing heavy: ``claim`` runs before anything that might print is imported.
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
import stat
import sys


def claim() -> tuple[int, int]:
    """Take stdin and stdout for the wire; returns their new descriptors, not inherited by children.

    Afterwards fd 0 is empty and fd 1 is stderr, so that a stray read or print anywhere, in C code too, harms nothing.
    A descriptor that was closed reads as empty, or cannot be written, so that an answer is not lost in silence.
    """
    if sys.stdout is not None:
        sys.stdout.flush()
    wire_in = _duplicate(0)
    wire_out = _duplicate(1)
    null = _null(os.O_RDWR)
    os.dup2(null, 0)
    try:
        os.fstat(2)
    except OSError:  # no stderr either; left closed, the next descriptor that is opened would become it
        os.dup2(null, 2)
    os.dup2(2, 1)
    os.close(null)
    return wire_in, wire_out


def _duplicate(fd: int) -> int:
    """A copy of ``fd``, or of /dev/null, for reading, if that is closed."""
    try:
        return _above_standard(fd)
    except OSError as error:
        if error.errno != errno.EBADF:
            raise
    return _null(os.O_RDONLY)


def _null(flags: int) -> int:
    null = os.open(os.devnull, flags)
    try:
        return _above_standard(null)
    finally:
        os.close(null)


def _above_standard(fd: int) -> int:
    """A copy that is none of 0, 1 and 2: where one of those is closed, a new descriptor would take its place."""
    return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3)


def is_stream(fd: int) -> bool:
    """Whether it is a pipe or a socket, for which readiness means something."""
    mode = os.fstat(fd).st_mode
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)


def wait_until(fd: int, event: int) -> None:
    """Wait until ``fd`` is ready for ``event`` (of ``select.poll``) or has hung up."""
    poll = select.poll()
    poll.register(fd, event)
    poll.poll()


def has_ended(fd: int) -> bool:
    """Whether no process can write to ``fd``'s other end. False where the system cannot tell."""
    return any(event & select.POLLHUP for _, event in _poll(fd))


def somebody_reads(fd: int) -> bool:
    """Whether a process can still read from ``fd``'s other end. True where the system cannot tell."""
    return not any(event & (select.POLLERR | select.POLLHUP) for _, event in _poll(fd))


def _poll(fd: int) -> list[tuple[int, int]]:
    poll = select.poll()
    poll.register(fd, 0)
    return poll.poll(0)
