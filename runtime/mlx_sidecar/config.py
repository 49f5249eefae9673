"""One frozen configuration, made once from the command line and handed down."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal

from .link.engine_config import EngineConfig

Framing = Literal["auto", "lines", "headers"]


@dataclass(frozen=True, kw_only=True)
class Config(EngineConfig):
    """The settings of ``mlx-sidecar serve``: the engine's options, and the front's own. Sizes in bytes."""

    framing: Framing = "auto"
    fixtures: bool = False
    autoload: bool = True
    frame_limit_bytes: int = 64 * 2**20
    batch_limit: int = 1000
    nesting_limit: int = 128
    values_limit: int = 1_100_000  # of one message; see mlx_sidecar_protocol.limits
    requests_limit_bytes: int = 32 * 2**20  # of requests that are being worked on
    answers_limit_bytes: int = 16 * 2**20  # of answers that the host has not read
    journal_limit_bytes: int = 256 * 2**20  # for what is remembered of open requests, to start them again
    sessions_limit: int = 4096
    sessions_limit_bytes: int = 256 * 2**20  # of their tokens and messages

    @property
    def of_engine(self) -> EngineConfig:
        """The engine's options alone."""
        return EngineConfig(**{field.name: getattr(self, field.name) for field in fields(EngineConfig)})

    @property
    def caches(self) -> bool:
        """Whether prompts are cached at all."""
        return self.engine == "mlx" and self.cache_limit_bytes != 0

    @property
    def caches_on_disk(self) -> bool:
        """Whether they are kept on disk as well."""
        return self.caches and self.cache_dir is not None
