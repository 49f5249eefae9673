"""Texts that a person names: whole files in UTF-8, and nothing that could go on without end."""

from __future__ import annotations

from pathlib import Path

from ..failures import Refused

LIMIT_BYTES = 16 * 2**20  # far more than a context holds


def read_text(path: Path) -> str:
    """The text of ``path``. Raises ``Refused`` with what is wrong with it."""
    try:
        if path.exists() and not (path.is_file() or path.is_dir()):
            raise Refused(f"{path} is no file, but a device or a pipe")
        if path.is_file() and path.stat().st_size > LIMIT_BYTES:
            raise Refused(f"{path} is larger than {LIMIT_BYTES:,} bytes")
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise Refused(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError:
        raise Refused(f"{path} is no text in UTF-8") from None
    except ValueError as error:  # a NUL in the path
        raise Refused(f"{str(path)!r} cannot be read: {error}") from error
