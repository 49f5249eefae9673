"""A file of lines with a bounded size, whose older parts are kept beside it: FILE.1 is the newest of them."""

from __future__ import annotations

import fcntl
import os
import stat
from pathlib import Path


class RotatingFile:
    """Appends lines to a file, which its owner alone can read, across restarts; a full one becomes ``FILE.1``.

    ``older`` parts are kept, the oldest is deleted. One process writes at a time. Raises ``ValueError`` at the start
    for a file that another one writes, or that is no file; ``OSError`` wherever the system refuses something.
    """

    def __init__(self, path: Path, limit_bytes: int, older: int) -> None:
        self._path = path.resolve()  # of a link the file itself is renamed
        self._limit_bytes = limit_bytes
        self._older = older
        self._fd = _opened(self._path)
        self._size = os.fstat(self._fd).st_size
        # A process that was killed may have left half a line.
        self._is_torn = self._size > 0 and os.pread(self._fd, 1, self._size - 1) != b"\n"

    def append(self, line: bytes) -> None:
        """Write ``line``, which ends with a line feed. Raises ``OSError``; the file is as good as before, then."""
        if self._size and self._size + len(line) > self._limit_bytes:
            self._rotate()
        rest = b"\n" + line if self._is_torn else line
        while rest:
            written = os.write(self._fd, rest)
            self._size += written
            rest = rest[written:]
            self._is_torn = bool(rest)

    def close(self) -> None:
        os.close(self._fd)

    def _rotate(self) -> None:
        # The new file is there before an old one is moved: a full disk, tried again at each line, deletes nothing.
        fresh = self._part("new")
        fd = _opened(fresh, os.O_TRUNC)
        try:
            for number in range(self._older - 1, 0, -1):
                if self._part(number).exists():
                    self._part(number).replace(self._part(number + 1))
            if self._older:
                self._path.replace(self._part(1))
            fresh.replace(self._path)
        except BaseException:
            os.close(fd)
            raise
        os.close(self._fd)
        self._fd, self._size, self._is_torn = fd, 0, False

    def _part(self, suffix: int | str) -> Path:
        return self._path.with_name(f"{self._path.name}.{suffix}")


def _opened(path: Path, more_flags: int = 0) -> int:
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | more_flags, 0o600)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise ValueError("it is no regular file")
        os.fchmod(fd, 0o600)
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        raise ValueError("another process writes it") from None
    except BaseException:
        os.close(fd)
        raise
    return fd
