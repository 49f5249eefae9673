"""Types of arguments; each raises ``ArgumentTypeError`` with words for the person who typed."""

from __future__ import annotations

import argparse
import os
import stat
from math import isfinite
from pathlib import Path

from mlx_sidecar_protocol.limits import Limits


def integer(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number") from None


def positive(text: str) -> int:
    if (number := integer(text)) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not positive")
    return number


def loop_tokens(text: str) -> int:
    if not 3 <= (number := integer(text)) <= 4096:
        raise argparse.ArgumentTypeError(f"{text} is not 3 to 4096")
    return number


def not_negative(text: str) -> int:
    if (number := integer(text)) < 0:
        raise argparse.ArgumentTypeError(f"{text} is negative")
    return number


def finite(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no number") from None
    if not isfinite(number):
        raise argparse.ArgumentTypeError(f"{text} is no number that JSON knows")
    return number


def seconds(text: str) -> float:
    if (number := finite(text)) <= 0:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number of seconds")
    return number


def not_negative_seconds(text: str) -> float:
    if (number := finite(text)) < 0:
        raise argparse.ArgumentTypeError(f"{text} is a negative number of seconds")
    return number


def origin(text: str) -> str:
    """An origin of web pages, as browsers send it."""
    scheme, separator, host = text.partition("://")
    if not (scheme and separator and host) or "/" in host:
        raise argparse.ArgumentTypeError(f"{text!r} is no origin: a scheme and a host, such as https://example.org")
    return text


def nesting(text: str) -> int:
    limit = positive(text)
    try:
        Limits(nesting=limit)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return limit


def new_file(text: str) -> str:
    """Create or empty the file at ``text``, for its owner alone to read; returns its absolute path."""
    path = Path(text).absolute()
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            if stat.S_ISREG(os.fstat(fd).st_mode):
                os.fchmod(fd, 0o600)
        finally:
            os.close(fd)
    except OSError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return str(path)
