"""Scrapes of ``/metrics``, read as Prometheus reads them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from mlx_sidecar_gateway.observability import engine_figures
from tests.gateway.in_memory import InMemory
from tests.gateway.support import PATIENCE_S


@dataclass(frozen=True)
class Scraped:
    """The text of one scrape."""

    text: str

    @cached_property
    def families(self) -> dict[str, Metric]:
        return {family.name: family for family in text_string_to_metric_families(self.text)}

    def samples(self, series: str, **labels: str) -> Iterator[Sample]:
        """The samples of a series that have these labels, among others."""
        for family in self.families.values():
            for sample in family.samples:
                if sample.name == series and labels.items() <= sample.labels.items():
                    yield sample

    def total(self, series: str, **labels: str) -> float:
        """Their sum."""
        return sum(sample.value for sample in self.samples(series, **labels))

    def values(self, series: str, label: str) -> set[str]:
        """The values that a label has."""
        return {sample.labels[label] for sample in self.samples(series) if label in sample.labels}


async def scrape(memory: InMemory, *headers: tuple[str, str]) -> Scraped:
    """A scrape of a gateway in memory, which must succeed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine_figures, "ANSWER_S", PATIENCE_S)  # a busy machine is no sidecar that hangs
        visit = await memory.visit("/metrics", {}, method="GET", headers=headers).run()
    assert visit.status == 200, visit.body
    assert visit.headers["content-type"].startswith("text/plain; version=0.0.4")
    return Scraped(visit.body.decode())
