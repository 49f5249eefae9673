"""Metrics of OTLP as the series that a scrape of ``/metrics`` has, named as Prometheus' own receiver names them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import accumulate

from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric
from prometheus_client import Metric as Family

Series = dict[tuple[str, frozenset[tuple[str, str]]], float]

MOVING = {
    "mlx_sidecar_requests_running",
    "mlx_sidecar_uptime_seconds",
    "mlx_sidecar_last_device_operation_seconds",
    "mlx_sidecar_resident_bytes",
    "mlx_sidecar_metric_exports_total",
}
"""Series that are other ones a moment later, or count the scrape that tells them."""

_ENDINGS = {"s": "seconds", "By": "bytes"}


def series_of(metrics: Iterable[Metric]) -> Series:
    """Every series, by its name and labels."""
    made: Series = {}
    for metric in metrics:
        name, labels_of = name_of(metric), _labels
        for number in [*metric.sum.data_points, *metric.gauge.data_points]:
            made[name, labels_of(number.attributes)] = number.as_double
        for point in metric.histogram.data_points:
            labels = labels_of(point.attributes)
            bounds = [*point.explicit_bounds, math.inf]
            for bound, count in zip(bounds, accumulate(point.bucket_counts), strict=True):
                made[f"{name}_bucket", labels | {("le", str(float(bound)))}] = count
            made[f"{name}_count", labels] = point.count
            if point.HasField("sum"):
                made[f"{name}_sum", labels] = point.sum
    return made


def scraped_series(families: Iterable[Family]) -> Series:
    """Those of a scrape, in the same form."""
    made: Series = {}
    for family in families:
        for sample in family.samples:
            labels = {name: value for name, value in sample.labels.items() if value}
            if "le" in labels:
                labels["le"] = str(float(labels["le"]))
            made[sample.name, frozenset(labels.items())] = sample.value
    return made


def name_of(metric: Metric) -> str:
    """The name of its series: with underscores, its unit at the end, and ``_total`` for a counter."""
    name, ending = metric.name.replace(".", "_"), _ENDINGS.get(metric.unit, "")
    with_unit = name if not ending or ending in name.split("_") else f"{name}_{ending}"
    return f"{with_unit}_total" if metric.HasField("sum") else with_unit


def _labels(attributes: Iterable[KeyValue]) -> frozenset[tuple[str, str]]:
    return frozenset((pair.key.replace(".", "_"), pair.value.string_value) for pair in attributes)
