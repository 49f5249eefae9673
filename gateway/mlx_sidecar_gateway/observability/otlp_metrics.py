"""The metrics of ``/metrics``, sent to a collector of OpenTelemetry again and again."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from threading import Thread

import anyio
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.metrics.export import (
    MetricExporter,
    MetricExportResult,
    MetricsData,
    ResourceMetrics,
    ScopeMetrics,
)
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from prometheus_client import Metric as Family

from ..core.gateway import Gateway
from .metrics import Metrics
from .otel_environment import check_forms_of_metrics, check_protocol, metrics_interval_s, resource
from .otlp_points import Starts, metrics_of

log = logging.getLogger("mlx_sidecar_gateway")

_LAST_EXPORT_S = 5.0  # when the gateway ends


class SentMetrics:
    """Sends all metrics at the environment's interval, and counts in ``counts`` the exports ``sent`` or ``failed``.

    Nothing is counted for it: each export is what a scrape would have told. Without an ``exporter`` they go where the
    environment's ``OTEL_…`` say. Raises ``CannotExport``.
    """

    def __init__(self, metrics: Metrics, counts: Counter[str], exporter: MetricExporter | None = None) -> None:
        check_protocol("METRICS")
        check_forms_of_metrics()
        self._interval_s = metrics_interval_s()
        self._exporter = exporter or OTLPMetricExporter()
        self._metrics, self._counts = metrics, counts
        self._starts = Starts(metrics.began_ns)
        self._resource = resource()
        self._one_at_a_time = anyio.Lock()

    @classmethod
    def of(cls, gateway: Gateway, exporter: MetricExporter | None = None) -> SentMetrics:
        """Those of a gateway, which are not sent yet."""
        return cls(gateway.metrics, gateway.exports, exporter)

    async def run(self) -> None:
        """Send them at every interval, until cancelled."""
        while True:
            await anyio.sleep(self._interval_s)
            await self.send()

    async def end(self) -> None:
        """Send them for the last time, within ``_LAST_EXPORT_S``."""
        with anyio.move_on_after(_LAST_EXPORT_S) as last:
            await self.send()
        if last.cancelled_caught:
            log.warning("the last metrics were not sent before the end")
        self._exporter.shutdown()

    async def send(self) -> None:
        """Send them as they are now; what hinders that is logged and counted."""
        async with self._one_at_a_time:
            outcome = "failed"
            try:
                data = self._data(await self._metrics.families())
                result = await asyncio.wrap_future(_in_thread(partial(self._exporter.export, data)))
                outcome = "sent" if result is MetricExportResult.SUCCESS else "failed"
            except Exception:
                log.exception("metrics could not be sent")
            finally:
                self._counts[outcome] += 1

    def _data(self, families: list[Family]) -> MetricsData:
        scope = InstrumentationScope("mlx_sidecar_gateway")
        metrics = list(metrics_of(families, self._starts, time.time_ns()))
        return MetricsData([ResourceMetrics(self._resource, [ScopeMetrics(scope, metrics, "")], "")])


def _in_thread(call: Callable[[], MetricExportResult]) -> Future[MetricExportResult]:
    """Run ``call`` in a thread that no end of this process waits for: a collector may hang."""
    future: Future[MetricExportResult] = Future()
    future.set_running_or_notify_cancel()  # from here on nothing but the thread ends it

    def run() -> None:
        try:
            future.set_result(call())
        except BaseException as error:  # noqa: BLE001 - it is told to the future's waiter
            future.set_exception(error)

    Thread(target=run, name="otlp metrics", daemon=True).start()
    return future
