"""The gateway as a process: its socket, its sidecar, and the order in which it ends."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import stat
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import uvicorn
import uvloop

from mlx_sidecar_client import ExecutableNotFound, RpcError, Sidecar, SidecarLost

from .app import access_of, application
from .connections import BoundedConfig, Bounds, make_room_for
from .core.access import is_loopback
from .core.gateway import Gateway
from .ending_signals import EndingSignals
from .observability.request_log import RequestLog
from .providers.table import LOCAL, TableError
from .settings import Settings
from .surfaces.table import SURFACES

if TYPE_CHECKING:
    from .observability.otlp_metrics import SentMetrics

_BACKLOG = 1024
_LAST_WRITES_S = 2.0  # for answers that were ended to reach clients that may not read


class CannotStart(Exception):
    """The gateway cannot start; the message is for the person who started it."""


def serve(settings: Settings) -> int:
    """Run a gateway until SIGTERM or SIGINT; returns its exit status. Raises ``CannotStart``."""
    host = host_of(settings.listen)
    if host is not None and not is_loopback(host) and not settings.keys:
        raise CannotStart(f"{settings.listen} can be reached by others, so keys are needed: --keys FILE")
    _check_names(settings)
    _check_keys(settings)
    if not make_room_for(settings.connection_limit):
        raise CannotStart(
            f"--connection-limit {settings.connection_limit}: this process may not have so many files open (ulimit -n)"
        )
    logging.basicConfig(level=logging.WARNING, format="%(name)s: %(message)s", stream=sys.stderr)
    signals = EndingSignals()
    # The log is written out when the loop has ended the last request.
    with signals.caught(), listening(settings.listen) as (listener, name), _request_log(settings) as request_log:
        return uvloop.run(_serve(settings, host, listener, name, request_log, signals))


@contextlib.contextmanager
def _request_log(settings: Settings) -> Iterator[RequestLog | None]:
    """The request log, if one is asked for. Raises ``CannotStart`` for a file that cannot be written."""
    if settings.request_log is None:
        yield None
        return
    try:
        request_log = RequestLog(settings.request_log)
    except (OSError, ValueError) as error:
        raise CannotStart(f"--request-log {settings.request_log.file}: {error}") from error
    try:
        yield request_log
    finally:
        request_log.close()


async def _serve(
    settings: Settings,
    host: str | None,
    listener: socket.socket,
    name: str,
    request_log: RequestLog | None,
    signals: EndingSignals,
) -> int:
    try:
        gateway = Gateway(settings)
    except TableError as error:
        raise CannotStart(f"--providers: {error}") from error
    if request_log is not None:
        request_log.attach(gateway.records)
        gateway.told["request_log"] = request_log.figures
    server = http_server(gateway, host)
    with _traced(gateway) as sent_metrics:
        _tell(f"listening on {name}")
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(keep_sidecar, gateway, partial(_tell, "ready"))
                tasks.start_soon(_end_in_order, gateway, server, signals)
                if sent_metrics is not None:
                    tasks.start_soon(sent_metrics.run)
                await server.serve(sockets=[listener])
                if sent_metrics is not None:
                    await sent_metrics.end()  # while the sidecar is there
                tasks.cancel_scope.cancel()
        except* (SidecarLost, OSError, RpcError, ExecutableNotFound) as errors:
            raise CannotStart(str(errors.exceptions[0])) from errors
    return 0


@contextlib.contextmanager
def _traced(gateway: Gateway) -> Iterator[SentMetrics | None]:
    """Send spans in this block, and give the metrics that are to be sent, as the settings and the environment want it.

    Raises ``CannotStart``.
    """
    if not gateway.settings.otel:
        yield None
        return
    # Packages of an extra of its own.
    from .observability.otel_environment import CannotExport, is_wanted
    from .observability.otlp_metrics import SentMetrics
    from .observability.traces import Traces

    try:
        metrics = SentMetrics.of(gateway) if is_wanted("METRICS") else None
        traces = Traces.of(gateway) if is_wanted("TRACES") else None
    except CannotExport as error:
        raise CannotStart(f"--otel: {error}") from error
    with contextlib.nullcontext() if traces is None else traces.hearing(gateway.records):
        yield metrics


def http_server(gateway: Gateway, host: str | None) -> uvicorn.Server:
    """The HTTP server of a gateway that listens on ``host``; None for a socket in the file system."""
    settings = gateway.settings
    config = BoundedConfig(
        application(gateway, access_of(gateway, host)),
        Bounds(settings.connection_limit, settings.header_timeout_s, SURFACES[0].fault),
        timeout_keep_alive=settings.keep_alive_s,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        backlog=_BACKLOG,
    )
    return _Server(config)


def _check_names(settings: Settings) -> None:
    """Raise ``CannotStart`` for a model of the table that has the name of a model of the command line."""
    taken = {offer.name for offer in settings.models}
    for name in () if settings.providers is None else settings.providers.names:
        if name in taken:
            raise CannotStart(f"--providers: models.{name}: --model has this name, too")


def _check_keys(settings: Settings) -> None:
    """Raise ``CannotStart`` for a key that is only for models which the gateway does not offer."""
    offered = {offer.name for offer in settings.offers}
    for key in settings.keys.values():
        for name in sorted((key.models or frozenset()) - offered) if offered else ():
            raise CannotStart(f"--keys: the key {key.name!r} is for a model {name!r}, which is not offered")


async def keep_sidecar(gateway: Gateway, on_loaded: Callable[[], None]) -> None:
    """Run the sidecar, with the models of the settings, for as long as the gateway runs."""
    settings = gateway.settings
    async with Sidecar.spawn(command=settings.command or None, options=settings.options) as sidecar:
        gateway.sidecar = sidecar
        routed = [] if settings.providers is None else settings.providers.models_at(LOCAL)
        for model in dict.fromkeys([*(offer.model for offer in settings.models), *routed]):
            await sidecar.load(model, pin=True)
        for offer in settings.models:
            if offer.adapter is not None:
                await sidecar.adapter_load(offer.model, offer.adapter, offer.adapter_path)
        running = contextlib.nullcontext() if gateway.providers is None else gateway.providers.running(settings.command)
        async with running:
            gateway.is_loaded = True
            on_loaded()
            await anyio.sleep_forever()


def _tell(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


async def _end_in_order(gateway: Gateway, server: uvicorn.Server, signals: EndingSignals) -> None:
    """On the first signal: unready, after a while deaf, then finish. A second one cuts each wait short."""
    settings = gateway.settings
    await signals.next()
    gateway.is_draining = True
    with anyio.move_on_after(settings.drain_delay_s):
        await signals.next()
    server.should_exit = True
    with anyio.move_on_after(settings.drain_timeout_s):
        await signals.next()
    gateway.stop_answers()
    await anyio.sleep(_LAST_WRITES_S)
    server.force_exit = True
    await anyio.sleep_forever()


class _Server(uvicorn.Server):
    """A server that leaves signals to us: uvicorn would end the process by the signal that it got."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


# Listening.


def host_of(listen: str) -> str | None:
    """The host in ``HOST:PORT``; None for ``unix:PATH``. Raises ``CannotStart``."""
    if listen.startswith("unix:"):
        return None
    host, separator, port = listen.rpartition(":")
    if not separator or not port.isdecimal() or int(port) > 65535:
        raise CannotStart(f"--listen {listen}: neither HOST:PORT nor unix:PATH")
    return host.removeprefix("[").removesuffix("]")


@contextlib.contextmanager
def listening(listen: str) -> Iterator[tuple[socket.socket, str]]:
    """A bound socket, and the address that clients use. Raises ``CannotStart``."""
    path = listen.removeprefix("unix:") if listen.startswith("unix:") else None
    try:
        listener = _bound(listen) if path is None else _bound_path(path)
    except OSError as error:
        raise CannotStart(f"--listen {listen}: {error}") from error
    try:
        listener.listen(_BACKLOG)
        host, port = listener.getsockname()[:2] if path is None else ("", "")
        yield listener, listen if path is not None else f"http://{f'[{host}]' if ':' in host else host}:{port}"
    finally:
        listener.close()
        if path is not None:
            Path(path).unlink(missing_ok=True)


def _bound(listen: str) -> socket.socket:
    host, port = host_of(listen), int(listen.rpartition(":")[2])
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except BaseException:
        listener.close()
        raise
    return listener


def _bound_path(path: str) -> socket.socket:
    """A socket in the file system that its owner alone can reach; one that nobody listens on any more is replaced."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _remove_dead(path)
        mask = os.umask(0o177)
        try:
            listener.bind(path)
        finally:
            os.umask(mask)
    except BaseException:
        listener.close()
        raise
    return listener


def _remove_dead(path: str) -> None:
    if not Path(path).exists() or not stat.S_ISSOCK(Path(path).stat().st_mode):
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            Path(path).unlink()
