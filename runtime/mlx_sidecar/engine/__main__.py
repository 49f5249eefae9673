"""``python -m mlx_sidecar.engine --fd N …``: the engine process. It is internal: the front starts it."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import socket
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import msgspec

from mlx_sidecar_protocol.errors import RpcError

from ..bare_import import uncollected, without_numpy_docs
from ..link.codec import encode
from ..link.engine_config import EngineConfig, Numerics
from ..link.faults import fault_of
from ..link.heartbeat_page import HeartbeatPage
from ..link.messages import Ready, Refused
from ..link.parent_death import die_with
from ..machine_memory import granted_bytes, machine_limit_bytes
from ..observe.stderr import log_to_stderr
from ..observe.trace import Trace
from .assembly import assemble
from .cache.disk_index import DiskIndex
from .cache.prefix_cache import PrefixCache
from .cache.store import Store
from .inbox import Inbox
from .loop import Engine
from .outbox import LinkOutbox
from .scheduling.scheduler import Limits

if TYPE_CHECKING:
    from .execution.backend_policy import Policy
    from .execution.mlx_backend import MlxBackend
    from .fake.fake_engine import FakeBackend

FAILED_STATUS = 1
REFUSED_STATUS = 78  # EX_CONFIG: starting again would not help
CACHE_SHARE = 4  # of what the engine may use: it is the first to go where more is needed


def main() -> NoReturn:
    """Serve the link until it closes."""
    options = _parser().parse_args()
    config: EngineConfig = options.config
    if options.parent is not None:
        die_with(options.parent)
    page = HeartbeatPage.create() if options.page_fd is None else HeartbeatPage(options.page_fd)
    for fd in (options.fd, page.fd):
        # mlx runs a compiler as its child: what holds our end of the link would hide our death from the front.
        os.set_inheritable(fd, False)
    log_to_stderr(config.log_level, "engine: %(levelname)s: %(message)s")
    # Ctrl-C in a terminal reaches the whole process group; the front decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    link = socket.socket(fileno=options.fd)
    # Listening first: from here on a front that goes away ends us, even inside a slow import.
    inbox = Inbox(link)
    inbox.start()
    try:
        _start(link, inbox, page, config).run()
    except ConnectionError:
        os._exit(0)  # the front is gone, and we noticed in a send before the inbox did
    except Exception:
        # Not by sys.exit: threads of mlx may abort an interpreter that is being taken down.
        logging.exception("the engine failed")
        os._exit(FAILED_STATUS)


def _start(link: socket.socket, inbox: Inbox, page: HeartbeatPage, config: EngineConfig) -> Engine:
    """An engine whose device works. If there can be none, the front is told why, and the process ends."""
    trace = None if config.trace is None else Trace(Path(config.trace))
    try:
        backend, limit_bytes, prefix_cache = _fake(config) if config.engine == "fake" else _mlx(config, inbox)
        backend.prove()
    except RpcError as error:
        logging.error("the engine cannot serve: %s", error.message)
        link.sendall(encode(Refused(0, fault_of(error))))
        os._exit(REFUSED_STATUS)
    limits = Limits()
    engine = assemble(
        LinkOutbox(link),
        inbox,
        backend,
        limits,
        limit_bytes,
        trace,
        prefix_cache=prefix_cache,
        page=page,
        stall_after_s=config.stall_after_s,
    )
    link.sendall(encode(_ready(backend, config.numerics, limit_bytes, limits)))
    return engine


def _ready(backend: FakeBackend | MlxBackend, numerics: Numerics, limit_bytes: int, limits: Limits) -> Ready:
    return Ready(
        pid=os.getpid(),
        backend=backend.name,
        device=backend.device,
        versions=backend.versions,
        numerics=numerics,
        policy=backend.policy,
        memory_limit_bytes=limit_bytes,
        waiting_limit=limits.waiting,
        running_limit=limits.running,
    )


Device = tuple["FakeBackend | MlxBackend", int, PrefixCache | None]  # what it may use, in bytes, and what caches for it


def _fake(config: EngineConfig) -> Device:
    from .fake.fake_engine import FakeBackend

    return FakeBackend(), config.memory_limit_bytes or machine_limit_bytes(), None


def _mlx(config: EngineConfig, inbox: Inbox) -> Device:
    # The order matters: the BLAS is settled before anything imports mlx.
    from .execution.backend_policy import settle

    policy = settle(
        config.numerics,
        native=config.native,
        threads=config.threads,
        activations=config.activations,
        kv_cache_dtype=config.kv_cache_dtype,
    )
    without_numpy_docs()
    with uncollected():
        from .cache.disk.tier import DiskTier
        from .execution.mlx_backend import MlxBackend

    wanted_bytes = config.memory_limit_bytes
    limit_bytes = policy.limit_bytes if wanted_bytes is None else _granted(wanted_bytes, policy)
    cached_bytes = limit_bytes // CACHE_SHARE if config.cache_limit_bytes is None else config.cache_limit_bytes
    on_disk = None if config.cache_dir is None else Path(config.cache_dir), config.cache_disk_limit_bytes
    prefix_cache = PrefixCache(
        Store(min(cached_bytes, limit_bytes)), DiskIndex(DiskTier(*on_disk, inbox.put), *on_disk)
    )
    backend = MlxBackend(policy, limit_bytes, prefix_cache, trust_remote_code=config.trust_remote_code)
    return backend, limit_bytes, prefix_cache


def _granted(wanted_bytes: int, policy: Policy) -> int:
    on_cuda = policy.backend == "cuda"  # the device has a memory of its own
    limit_bytes = min(wanted_bytes, policy.limit_bytes) if on_cuda else granted_bytes(wanted_bytes)
    if limit_bytes < wanted_bytes:
        told = "--memory-limit-bytes %d is more than there is, or than a cgroup allows: it is %d"
        logging.warning(told, wanted_bytes, limit_bytes)
    return limit_bytes


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="mlx_sidecar.engine", description=__doc__)
    parser.add_argument("--fd", type=int, required=True, help="our end of the link, inherited")
    parser.add_argument("--page-fd", type=int, help="the page shared with the front, inherited")
    parser.add_argument("--parent", type=int, help="the process to end with; none: only with the link")
    parser.add_argument("--config", type=_config, default=EngineConfig(), help="an EngineConfig as JSON")
    return parser


def _config(text: str) -> EngineConfig:
    return msgspec.json.decode(text, type=EngineConfig)


if __name__ == "__main__":
    main()
