"""Verdicts refuse the models, or the forms, of requests that ended text processes."""

from __future__ import annotations

from collections import OrderedDict
from typing import TypeVar

from ...link.text_messages import ModelFolder
from .text_seat import Job

DEATHS = 2  # of processes under one request, after which its model is refused
KILLS = 5  # the same, by signals from elsewhere: mostly the kernel, for memory that another program may have taken
LASTS_S = 300.0  # how long a model is refused, because the cause may lie outside its files
REMEMBERED = 256  # models

# A directory and its edition, so that a refusal holds under every name of the model, until its files change.
_Files = tuple[str, str]
V = TypeVar("V")


class TextVerdicts:
    """Counts the processes that each request ended."""

    def __init__(self) -> None:
        self._refused: OrderedDict[_Files, tuple[str, float]] = OrderedDict()  # the reason, and until when
        self._suspected: OrderedDict[_Files, int] = OrderedDict()  # deaths under requests that their callers left

    def check(self, job: Job, now: float) -> None:
        """Let a new job take over the deaths of a cancelled one. Raises its refusal for a refused model."""
        because, until = self._refused.get(_files(job.folder), ("", 0.0))
        if now < until:
            raise job.refusal(because)
        self._refused.pop(_files(job.folder), None)
        job.deaths = self._suspected.pop(_files(job.folder), 0)

    def lost(self, job: Job, because: str, now: float, *, forced: bool) -> str | None:
        """Count the process lost with ``job``; returns why its model is refused, None if ``job`` may try again.

        ``forced``: a signal from elsewhere ended the process.
        """
        files = _files(job.folder)
        job.deaths += not forced
        job.kills += forced
        if files not in self._refused:
            if job.deaths < DEATHS and job.kills < KILLS:
                if job.answer.done():
                    self.left(job)
                return None
            deaths = job.deaths + job.kills
            ended = f"what its files say of text ended {deaths} processes that read them"
            if not job.of_model:
                ended = f"it ended {deaths} processes that made a grammar of it"
            _remember(self._refused, files, (f"{ended}, the last one since {because}", now + LASTS_S))
        return self._refused[files][0]

    def left(self, job: Job) -> None:
        """Keep the deaths of ``job``, left by its caller, for the next job about its model."""
        if job.deaths:
            _remember(self._suspected, _files(job.folder), job.deaths)


def _files(folder: ModelFolder) -> _Files:
    return folder.path, folder.edition


def _remember(what: OrderedDict[_Files, V], files: _Files, value: V) -> None:
    what[files] = value
    while len(what) > REMEMBERED:
        what.popitem(last=False)
