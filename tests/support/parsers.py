"""A parser of two channels, for tests of the parts around parsers."""

from __future__ import annotations

from mlx_sidecar.front.channels import TEXT
from mlx_sidecar.front.output.parser import Outcome, Segment

ASIDE = "aside"


class Asides:
    """Text between the markers ``opening`` and ``closing``, of two characters each, is of another channel."""

    def __init__(self, opening: str = "<<", closing: str = ">>") -> None:
        self._markers = {TEXT: opening, ASIDE: closing}
        self._channel = TEXT
        self._held = ""  # may be the beginning of a marker

    one_by_one = False
    outcome = Outcome()

    def push(self, text: str, tokens: list[int]) -> list[Segment]:
        rest = self._held + text
        segments: list[Segment] = []
        while (marker := self._markers[self._channel]) in rest:
            before, _, rest = rest.partition(marker)
            segments.append(Segment(self._channel, before))
            self._channel = TEXT if self._channel == ASIDE else ASIDE
        self._held = marker[0] if rest.endswith(marker[0]) else ""
        segments.append(Segment(self._channel, rest.removesuffix(self._held)))
        return [segment for segment in segments if segment.text]

    def finish(self, *, cut: bool) -> list[Segment]:
        return [Segment(self._channel, self._held)] if self._held else []
