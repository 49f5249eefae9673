"""One metric of the table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["counter", "gauge", "histogram"]
Source = Literal["requests", "gateway", "sidecar"]


@dataclass(frozen=True)
class Metric:
    """One metric.

    name: Without the ending that its kind adds.
    unit: Of its values; empty for a plain number.
    source: The records of requests, the gateway itself, or the sidecar's ``stats`` and ``cache/stats``.
    follows: The convention that it follows, with its version; empty if it is our own.
    vllm: The metric of vLLM's server that tells the same, without ``vllm:``; empty if there is none.
    bounds: Upper bounds of a histogram; those of the sidecar's histograms come with them.
    """

    name: str
    kind: Kind
    unit: str
    labels: tuple[str, ...]
    help: str
    source: Source
    follows: str = ""
    vllm: str = ""
    bounds: tuple[float, ...] = ()

    @property
    def series(self) -> str:
        """The name in expressions: of a counter its total, of a histogram its buckets."""
        return self.name + {"counter": "_total", "gauge": "", "histogram": "_bucket"}[self.kind]

    @property
    def convention(self) -> str:
        """The name that the convention gives it; empty if it is our own."""
        return self.follows.partition(", ")[0]
