"""The front describes itself in the answers of several methods."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlx_sidecar_protocol.connection import ServerInfo

from .. import __version__
from ..link.engine_config import WAITING_LIMIT

if TYPE_CHECKING:
    from ..link.messages import Ready

SERVER = ServerInfo(name="mlx-sidecar", version=__version__)


def waiting_limit(ready: Ready | None) -> int:
    """How many requests may wait: as the engine has said, or as engines are started."""
    return WAITING_LIMIT if ready is None else ready.waiting_limit
