"""The environment's ``OTEL_…`` as far as they are looked at here; the SDK's exporters read others themselves."""

from __future__ import annotations

import math
import os
from typing import Literal

from opentelemetry.sdk.resources import SERVICE_NAME, Resource

Signal = Literal["TRACES", "METRICS"]

_PROTOCOL = "http/protobuf"
_INTERVAL = "OTEL_METRIC_EXPORT_INTERVAL"
_INTERVAL_MS = 60_000.0  # the SDK's default
# Sent are totals since the start, in buckets whose bounds are listed.
_ONLY = {
    "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE": "cumulative",
    "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION": "explicit_bucket_histogram",
}


class CannotExport(Exception):
    """The environment asks for what is not done here, or makes no sense; the message names what it is."""


def is_wanted(signal: Signal) -> bool:
    """Whether ``signal`` is sent: not if its ``OTEL_…_EXPORTER`` is ``none``, or ``OTEL_SDK_DISABLED`` is ``true``.

    Raises ``CannotExport`` for another exporter than ``otlp``.
    """
    name = f"OTEL_{signal}_EXPORTER"
    asked = _setting(name)
    if asked not in ("", "otlp", "none"):
        raise CannotExport(f"{name}={asked}: neither otlp nor none")
    return asked != "none" and _setting("OTEL_SDK_DISABLED").lower() != "true"


def check_protocol(signal: Signal) -> None:
    """Raise ``CannotExport`` for another protocol than OTLP over HTTP in protobuf."""
    # The first that is set holds; an empty one is not.
    for name in (f"OTEL_EXPORTER_OTLP_{signal}_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"):
        if asked := _setting(name):
            if asked != _PROTOCOL:
                raise CannotExport(f"{name}={asked}: {_PROTOCOL} alone is sent")
            return


def check_forms_of_metrics() -> None:
    """Raise ``CannotExport`` for metrics in another form than totals in buckets with bounds."""
    for name, only in _ONLY.items():
        if (asked := _setting(name)) and asked.lower() != only:
            raise CannotExport(f"{name}={asked}: {only} alone is sent")


def metrics_interval_s() -> float:
    """The time from an export of metrics to the next, in seconds. Raises ``CannotExport``."""
    asked = _setting(_INTERVAL)
    try:
        interval_ms = float(asked) if asked else _INTERVAL_MS
    except ValueError:
        interval_ms = math.nan
    if not 0 < interval_ms < math.inf:
        raise CannotExport(f"{_INTERVAL}={asked}: no number of milliseconds")
    return interval_ms / 1000


def resource() -> Resource:
    """The environment's description of this process, with a name if it gives none."""
    found = Resource.create()
    if str(found.attributes.get(SERVICE_NAME, "")).startswith("unknown_service"):
        return found.merge(Resource({SERVICE_NAME: "mlx-sidecar-gateway"}))
    return found


def _setting(name: str) -> str:
    return os.environ.get(name, "").strip()
