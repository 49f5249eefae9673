"""How an engine is to run, as the front tells it at its start: one JSON object on its command line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

EngineKind = Literal["mlx", "fake"]
Numerics = Literal["fast", "exact"]
Activations = Literal["float", "int8"]
KvCacheDtype = Literal["auto", "float16"]
NativeCode = Literal["auto", "off"]

# Sequences that may wait on an engine, as it is started: a list of prompts, which the front holds as well.
WAITING_LIMIT = 1024


# Not a msgspec struct: the command line is read before anything is imported that is not Python's own.
@dataclass(frozen=True, kw_only=True)
class EngineConfig:
    """Every option of an engine. Sizes in bytes, times in seconds."""

    engine: EngineKind = "mlx"
    numerics: Numerics = "fast"
    native: NativeCode = "auto"  # native code for the step of a model, on a Linux CPU
    threads: int = 1  # of native code
    activations: Activations = "float"  # int8: native code rounds them for the products of decoding
    kv_cache_dtype: KvCacheDtype = "auto"  # float16: native code rounds the keys and values it keeps
    memory_limit_bytes: int | None = None  # None: the engine asks the device and the machine
    cache_limit_bytes: int | None = None  # of prompts in memory; None: a quarter of what the engine may use; 0: off
    cache_dir: str | None = None  # where they are kept on disk; None: nowhere
    cache_disk_limit_bytes: int = 16 * 2**30
    stall_after_s: float = 10.0  # least time after which a device operation that does not end is taken for a hang
    trust_remote_code: bool = False  # run the Python code that a model directory brings
    log_level: str = "warning"
    trace: str | None = None  # a file for the engine's time line
