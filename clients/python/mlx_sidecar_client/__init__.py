"""The Python client of mlx-sidecar spawns it, speaks with it, and starts another one if it dies."""

__version__ = "0.1.0"

from .errors import SidecarClosed, SidecarLost, UnknownError
from .events import Event, ReasoningDelta, TextDelta, ToolCallDelta
from .executable import ExecutableNotFound
from .forms import IncompleteForm
from .parameters import ToolChoice
from .protocol.errors import RpcError
from .protocol.functions import Tool
from .protocol.generate_result import GenerateResult
from .protocol.notifications import EngineStateParams, ProgressParams, StreamDelta
from .protocol.tools import ToolCall
from .run_tools import CallDeclined, ToolOutcome, ToolRun, run_tools, run_tools_sync
from .session import Session
from .sidecar import Sidecar
from .stream import Stream
from .sync import SyncSidecar, SyncStream

__all__ = [
    "CallDeclined",
    "EngineStateParams",
    "Event",
    "ExecutableNotFound",
    "GenerateResult",
    "IncompleteForm",
    "ProgressParams",
    "ReasoningDelta",
    "RpcError",
    "Session",
    "Sidecar",
    "SidecarClosed",
    "SidecarLost",
    "Stream",
    "StreamDelta",
    "SyncSidecar",
    "SyncStream",
    "TextDelta",
    "Tool",
    "ToolCall",
    "ToolCallDelta",
    "ToolChoice",
    "ToolOutcome",
    "ToolRun",
    "UnknownError",
    "run_tools",
    "run_tools_sync",
]
