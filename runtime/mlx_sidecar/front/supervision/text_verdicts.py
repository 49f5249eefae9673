"""Which models are refused because requests about them ended text processes."""

from __future__ import annotations

from collections import OrderedDict
from typing import TypeVar

from mlx_sidecar_protocol.errors import ModelUnsupported

from ...link.text_messages import ModelFolder
from .text_seat import Job

DEATHS = 2  # of processes that one request ended: then its model is refused
KILLS = 5  # of those that somebody else ended: mostly the kernel, for want of memory that others may have taken
LASTS_S = 300.0  # a refusal: its cause may not be in the files
REMEMBERED = 256  # models

# A directory and its edition: whatever name it is asked for by, and only as long as its files are what they were.
_Files = tuple[str, str]
V = TypeVar("V")


class TextVerdicts:
    """Counts the processes that each request ended."""

    def __init__(self) -> None:
        self._refused: OrderedDict[_Files, tuple[str, float]] = OrderedDict()  # why, and until when
        self._suspected: OrderedDict[_Files, int] = OrderedDict()  # deaths of requests that nobody waited for any more

    def check(self, job: Job, now: float) -> None:
        """Have a new request count on from one that was cancelled. Raises ModelUnsupported for a refused model."""
        because, until = self._refused.get(_files(job.folder), ("", 0.0))
        if now < until:
            raise ModelUnsupported(job.folder.name, because)
        self._refused.pop(_files(job.folder), None)
        job.deaths = self._suspected.pop(_files(job.folder), 0)

    def lost(self, job: Job, because: str, now: float, *, forced: bool) -> str | None:
        """Why the model is refused, now that one more process was lost with ``job``; None if it may try again.

        ``forced``: the process was killed by somebody else.
        """
        files = _files(job.folder)
        job.deaths += not forced
        job.kills += forced
        if files not in self._refused:
            if job.deaths < DEATHS and job.kills < KILLS:
                if job.answer.done():
                    self.left(job)
                return None
            ended = f"what its files say of text ended {job.deaths + job.kills} processes that read them"
            _remember(self._refused, files, (f"{ended}, the last one since {because}", now + LASTS_S))
        return self._refused[files][0]

    def left(self, job: Job) -> None:
        """Nobody waits for ``job`` any more. What it did is remembered for the next one."""
        if job.deaths:
            _remember(self._suspected, _files(job.folder), job.deaths)


def _files(folder: ModelFolder) -> _Files:
    return folder.path, folder.edition


def _remember(what: OrderedDict[_Files, V], files: _Files, value: V) -> None:
    what[files] = value
    while len(what) > REMEMBERED:
        what.popitem(last=False)
