"""The Python client of mlx-sidecar spawns it, speaks with it, and starts another one if it dies."""

__version__ = "0.1.0"

from .errors import SidecarClosed, SidecarLost, UnknownError
from .executable import ExecutableNotFound
from .protocol.errors import RpcError
from .protocol.generate_result import GenerateResult
from .protocol.notifications import EngineStateParams, ProgressParams, StreamDelta
from .sidecar import Sidecar
from .stream import Stream
from .sync import SyncSidecar, SyncStream

__all__ = [
    "EngineStateParams",
    "ExecutableNotFound",
    "GenerateResult",
    "ProgressParams",
    "RpcError",
    "Sidecar",
    "SidecarClosed",
    "SidecarLost",
    "Stream",
    "StreamDelta",
    "SyncSidecar",
    "SyncStream",
    "UnknownError",
]
