"""Which models are refused because requests about them ended text processes."""

from __future__ import annotations

from collections import OrderedDict

from mlx_sidecar_protocol.errors import ModelUnsupported

from ...link.text_messages import ModelFolder
from .text_seat import Job

DEATHS = 2  # of processes that one request ended: then its model is refused
REMEMBERED = 256  # models

# A directory and its edition: whatever name it is asked for by, and only as long as its files are what they were.
_Files = tuple[str, str]


class TextVerdicts:
    """Counts the processes that each request ended."""

    def __init__(self) -> None:
        self._refused: OrderedDict[_Files, str] = OrderedDict()
        self._suspected: OrderedDict[_Files, int] = OrderedDict()  # deaths of requests that nobody waited for any more

    def check(self, job: Job) -> None:
        """Have a new request count on from one that was cancelled. Raises ModelUnsupported for a refused model."""
        if (because := self._refused.get(_files(job.folder))) is not None:
            raise ModelUnsupported(job.folder.name, because)
        job.deaths = self._suspected.pop(_files(job.folder), 0)

    def lost(self, job: Job, because: str) -> str | None:
        """Why the model is refused, now that one more process was lost with ``job``; None if it may try again."""
        files = _files(job.folder)
        job.deaths += 1
        if files not in self._refused:
            if job.deaths < DEATHS:
                if job.answer.done():
                    self.left(job)
                return None
            ended = f"what its files say of text ended {DEATHS} processes that read them"
            _remember(self._refused, files, f"{ended}, the last one since {because}")
        return self._refused[files]

    def left(self, job: Job) -> None:
        """Nobody waits for ``job`` any more. What it did is remembered for the next one."""
        if job.deaths:
            _remember(self._suspected, _files(job.folder), job.deaths)


def _files(folder: ModelFolder) -> _Files:
    return folder.path, folder.edition


def _remember(what: OrderedDict[_Files, str] | OrderedDict[_Files, int], files: _Files, value: str | int) -> None:
    what[files] = value  # type: ignore[assignment]  # each kind of value has its own table
    while len(what) > REMEMBERED:
        what.popitem(last=False)
