"""The families of ``/metrics`` as OTLP has them: totals since a start, by the names of OpenTelemetry's conventions."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    NumberDataPoint,
    Sum,
)
from prometheus_client import Metric as Family

from .names import TABLE

# Units by UCUM. One of a rate is left out: receivers with Prometheus' names would put it into the name once more.
UNITS = {"seconds": "s", "bytes": "By", "tokens": "{token}"}
ATTRIBUTES = {
    "error_type": "error.type",
    "gen_ai_operation_name": "gen_ai.operation.name",
    "gen_ai_provider_name": "gen_ai.provider.name",
    "gen_ai_request_model": "gen_ai.request.model",
    "gen_ai_token_type": "gen_ai.token.type",
}
"""Labels that are attributes of the conventions, where these have dots."""

_CUMULATIVE = AggregationTemporality.CUMULATIVE
_UNKNOWN: Any = None  # for members of a point that may be absent, though the SDK's types have them always

Labels = tuple[tuple[str, str], ...]


class Starts:
    """Remembers since when each series counts, in nanoseconds since 1970.

    A count that fell was begun anew, by another engine, after the export before. ``began_ns`` is the start of those
    that never fell.
    """

    def __init__(self, began_ns: int) -> None:
        self._began_ns = began_ns
        self._last: dict[tuple[str, Labels], tuple[int, float, int]] = {}

    def of(self, name: str, labels: Labels, count: float, now_ns: int) -> int:
        """The start of a series whose count is ``count`` now."""
        start_ns, last, last_ns = self._last.get((name, labels), (self._began_ns, 0.0, self._began_ns))
        if count < last:
            start_ns = last_ns
        self._last[name, labels] = (start_ns, count, now_ns)
        return start_ns


def metrics_of(families: Iterable[Family], starts: Starts, now_ns: int) -> Iterator[Metric]:
    """Each family as a metric of OTLP, as it is at ``now_ns``, in nanoseconds since 1970.

    A label without a value is no attribute. A histogram without a sum has none here, either. Raises ``ValueError`` for
    a family that is neither counter, gauge nor histogram.
    """
    for family in families:
        entry = TABLE.get(family.name)
        name = family.name if entry is None else entry.convention or family.name
        unit = "" if entry is None else UNITS.get(entry.unit, "")
        data = _data(family, starts, now_ns)
        if data.data_points:
            yield Metric(name, family.documentation, unit, data)


def _data(family: Family, starts: Starts, now_ns: int) -> Sum | Gauge | Histogram:
    if family.type == "counter":
        return Sum(list(_totals(family, starts, now_ns)), _CUMULATIVE, is_monotonic=True)
    if family.type == "gauge":
        points = [
            NumberDataPoint(_attributes(_key(each.labels)), 0, now_ns, float(each.value)) for each in family.samples
        ]
        return Gauge(points)
    if family.type == "histogram":
        return Histogram(list(_distributions(family, starts, now_ns)), _CUMULATIVE)
    raise ValueError(f"{family.name} is a {family.type}")


def _totals(family: Family, starts: Starts, now_ns: int) -> Iterator[NumberDataPoint]:
    for sample in family.samples:
        labels = _key(sample.labels)
        start_ns = starts.of(family.name, labels, sample.value, now_ns)
        yield NumberDataPoint(_attributes(labels), start_ns, now_ns, float(sample.value))


@dataclass
class _Series:
    """A histogram of Prometheus: its upper bounds with the counts up to them, and the sum if it has one."""

    buckets: list[tuple[float, int]] = field(default_factory=list)
    sum: float | None = None


def _distributions(family: Family, starts: Starts, now_ns: int) -> Iterator[HistogramDataPoint]:
    by_labels: dict[Labels, _Series] = {}
    for sample in family.samples:
        series = by_labels.setdefault(_key(sample.labels), _Series())
        if sample.name.endswith("_bucket"):
            series.buckets.append((float(sample.labels["le"]), int(sample.value)))
        elif sample.name.endswith("_sum"):
            series.sum = sample.value
    for labels, series in by_labels.items():
        buckets = sorted(series.buckets)
        count = buckets[-1][1]
        yield HistogramDataPoint(
            _attributes(labels),
            starts.of(family.name, labels, count, now_ns),
            now_ns,
            count=count,
            sum=_UNKNOWN if series.sum is None else series.sum,
            bucket_counts=[after - before for before, after in pairwise([0, *(up_to for _, up_to in buckets)])],
            explicit_bounds=[bound for bound, _ in buckets if bound != math.inf],
            min=_UNKNOWN,
            max=_UNKNOWN,
        )


def _key(labels: dict[str, str]) -> Labels:
    return tuple((name, value) for name, value in labels.items() if value and name != "le")


def _attributes(labels: Labels) -> dict[str, str]:
    return {ATTRIBUTES.get(name, name): value for name, value in labels}
