"""The tokens that one generation needed, for the quota of its caller."""

from __future__ import annotations

from typing import TypeVar

from .faults import SHUTTING_DOWN
from .quota import Quota
from .records import DISCONNECTED
from .source import Source

AnySource = TypeVar("AnySource", bound=Source)

BYTES_A_TOKEN = 4  # of a body: about that of English text, and of JSON
_CUT_OFF = frozenset({DISCONNECTED, SHUTTING_DOWN.kind})  # outcomes of generations that may have computed their prompt


class Spending:
    """The share of a quota that one generation takes: an estimate at its beginning, put right at its end.

    Tokens count that were computed: those of the prompt that were not cached, and those of the answer. Of a generation
    that was cut off neither is told, so that the estimate stands for its prompt, and the tokens that had come for its
    answer. Raises ``Refused`` if nothing is left.
    """

    def __init__(self, quota: Quota, body_bytes: int) -> None:
        self._quota = quota
        self._estimate = body_bytes // BYTES_A_TOKEN
        self._stream: Source | None = None
        quota.admit(self._estimate)

    def on(self, stream: AnySource) -> AnySource:
        """``stream``, which is the generation."""
        self._stream = stream
        return stream

    def settle(self, outcome: str) -> None:
        """The generation has ended, with the ``outcome`` of its answer."""
        self._quota.settle(self._estimate, self._needed(outcome))

    def _needed(self, outcome: str) -> int:
        if self._stream is None:
            return 0
        if self._stream.has_result:
            usage = self._stream.result.usage
            return usage.prompt_tokens - usage.cached_tokens + usage.completion_tokens
        come = self._stream.delivered_tokens
        return self._estimate + come if come or outcome in _CUT_OFF else 0
