"""Reads a request log and its older parts in their order, a line at a time, whatever else stands in them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from ..failures import USAGE, Refused

LONGEST_LINE_BYTES = 4 * 2**20  # four times the longest body that a gateway logs


class Entry(BaseModel):
    """The members of a line that are shown or looked for; docs/observability.md has them all."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    ts: AwareDatetime
    id: str
    status: int
    outcome: str
    method: str = ""
    path: str = ""
    surface: str = ""
    key: str = ""
    model: str = ""
    message: str = ""
    failed: bool = False
    queue_s: float | None = None
    first_token_s: float | None = None
    duration_s: float = 0.0
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    completion_tokens: int | None = None
    dropped: int = 0


@dataclass(frozen=True)
class Line:
    """One request, and its line as it stands in the file, line feed included."""

    entry: Entry
    raw: str


@dataclass
class Tally:
    """Counts of lines that are no requests, and of requests that the gateway says it could not write."""

    foreign: int = 0
    dropped: int = 0


def read(file: Path, tally: Tally) -> Iterator[Line]:
    """The requests, the earliest part first; ``tally`` is kept meanwhile. Raises ``Refused`` if there is no file."""
    with ExitStack() as stack:
        for part in [stack.enter_context(part) for part in _parts(file)]:
            for raw in _lines(part):
                if raw.isspace():
                    continue
                try:
                    entry = Entry.model_validate_json(raw)
                except ValidationError:
                    tally.foreign += 1
                    continue
                tally.dropped += entry.dropped
                yield Line(entry, raw.decode())


def _parts(file: Path) -> list[BinaryIO]:
    """The open files, the oldest first. A gateway that begins another one meanwhile makes none of them come twice."""
    opened: dict[tuple[int, int], BinaryIO] = {}
    try:
        # The newest is opened first: when it becomes FILE.1 after that, it is known already.
        for path in [file, *_older(file)]:
            if path == file and not path.exists() and _older(file):
                continue
            part: BinaryIO = path.open("rb")
            about = os.fstat(part.fileno())
            if (about.st_dev, about.st_ino) in opened:
                part.close()
            else:
                opened[about.st_dev, about.st_ino] = part
    except OSError as error:
        for other in opened.values():
            other.close()
        raise Refused(f"{error.filename}: {error.strerror}", USAGE) from error
    return list(opened.values())[::-1]


def _older(file: Path) -> list[Path]:
    """The older parts that are there, the newest first."""
    folder = file.parent
    names = [path.name.removeprefix(f"{file.name}.") for path in folder.iterdir()] if folder.is_dir() else []
    numbers = sorted(int(name) for name in names if name.isascii() and name.isdecimal())
    return [folder / f"{file.name}.{number}" for number in numbers]


def _lines(part: BinaryIO) -> Iterator[bytes]:
    """The lines; of one that is too long for a request its beginning alone."""
    while line := part.readline(LONGEST_LINE_BYTES):
        rest = line
        while len(rest) == LONGEST_LINE_BYTES and not rest.endswith(b"\n"):
            rest = part.readline(LONGEST_LINE_BYTES)
        yield line
