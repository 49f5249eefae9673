"""Standard streams and arguments of a terminal command under any locale, and its end on a shortage of resources."""

from __future__ import annotations

import errno
import io
import os
import sys
from typing import NoReturn

# The limit behind each error of the system.
_LIMITS = {
    errno.EMFILE: "ulimit -n",
    errno.ENFILE: "of the system",
    errno.EFBIG: "ulimit -f",
    errno.EAGAIN: "ulimit -u",
    errno.ENOMEM: "ulimit -v, or too little memory",
}


def open_closed() -> None:
    """Give a command each standard stream that it was started without: no input, and nowhere to write.

    Otherwise the next pipe or file that is opened would take its number. Raises OSError for a closed stdout, since
    what a command was asked for goes there.
    """
    if sys.stdin is None:
        sys.stdin = os.fdopen(os.open(os.devnull, os.O_RDONLY), encoding="utf-8")
    if sys.stderr is None:
        sys.stderr = os.fdopen(os.open(os.devnull, os.O_WRONLY), "w", encoding="utf-8")
    if sys.stdout is None:
        raise OSError(errno.EBADF, "stdout is closed")


def tolerate_locale() -> None:
    """Let no character end a command: one that the locale lacks is written as a question mark.

    Input under a locale of ASCII alone is read as UTF-8, because such a locale is never chosen on purpose.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    if isinstance(sys.stdin, io.TextIOWrapper):
        ascii_only = sys.stdin.encoding.lower() in ("ascii", "us-ascii", "ansi_x3.4-1968")
        sys.stdin.reconfigure(encoding="utf-8" if ascii_only else None, errors="replace")


def text_of(argument: str) -> str:
    """An argument of the command line as text; bytes that the locale cannot read are taken for UTF-8."""
    return os.fsencode(argument).decode("utf-8", "replace") if _has_escapes(argument) else argument


def _has_escapes(argument: str) -> bool:
    return any("\udc80" <= character <= "\udcff" for character in argument)


def is_shortage(error: BaseException) -> bool:
    """Whether ``error`` is the system's refusal of a resource, and not a bug of ours."""
    no_thread = isinstance(error, RuntimeError) and "thread" in str(error)
    return isinstance(error, OSError | MemoryError | ImportError) or no_thread


def cannot(error: BaseException) -> NoReturn:
    """End the process with status 1, and one sentence on stderr that says why."""
    limit = _LIMITS.get(error.errno or 0) if isinstance(error, OSError) else None
    if isinstance(error, RuntimeError):
        limit = _LIMITS[errno.EAGAIN]
    elif isinstance(error, MemoryError):
        limit = _LIMITS[errno.ENOMEM]
    if not isinstance(error, BrokenPipeError):  # after which the reader may have closed stderr too
        hint = f" (a limit: {limit})" if limit else ""
        os.write(2, f"error: {_words(error)}{hint}\n".encode(errors="replace"))
    os._exit(1)  # not through the interpreter's end, which would try to write again


def _words(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror if error.filename is None else f"{error.filename}: {error.strerror}"
    return str(error) or type(error).__name__
