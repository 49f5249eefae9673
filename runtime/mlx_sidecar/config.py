"""One frozen configuration, made once from the command line and handed down."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Framing = Literal["auto", "lines", "headers"]
EngineKind = Literal["mlx", "fake"]
Numerics = Literal["fast", "exact"]


@dataclass(frozen=True)
class Config:
    """What ``mlx-sidecar serve`` was told. Sizes in bytes, times in seconds."""

    framing: Framing = "auto"
    engine: EngineKind = "mlx"
    numerics: Numerics = "fast"
    fixtures: bool = False
    autoload: bool = True
    memory_limit_bytes: int | None = None  # None: the engine asks the device and the machine
    frame_limit_bytes: int = 64 * 2**20
    batch_limit: int = 1000
    nesting_limit: int = 128
    values_limit: int = 1_100_000  # of one message; see mlx_sidecar_protocol.limits
    requests_limit_bytes: int = 32 * 2**20  # of requests that are being worked on
    answers_limit_bytes: int = 16 * 2**20  # of answers that the host has not read
    log_level: str = "warning"
    trace: str | None = None  # a file for the engine's time line
    journal_limit_bytes: int = 256 * 2**20  # for what is remembered of open requests, to start them again
    stall_after_s: float = 10.0  # least time after which a device operation that does not end is taken for a hang
    cache_limit_bytes: int | None = None  # of prompts in memory; None: a quarter of what the engine may use; 0: off
    cache_dir: str | None = None  # where they are kept on disk; None: nowhere
    cache_disk_limit_bytes: int = 16 * 2**30
    trust_remote_code: bool = False  # run the Python code that a model directory brings

    @property
    def caches(self) -> bool:
        """Whether prompts are cached at all."""
        return self.engine == "mlx" and self.cache_limit_bytes != 0

    @property
    def caches_on_disk(self) -> bool:
        """Whether they are kept on disk as well."""
        return self.caches and self.cache_dir is not None
