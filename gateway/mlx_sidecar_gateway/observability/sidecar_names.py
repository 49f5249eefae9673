"""The metrics of the sidecar, and the members of its ``stats`` and ``cache/stats`` that they are made of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from .metric import Metric


def _gauge(name: str, unit: str, help_: str, labels: tuple[str, ...] = (), vllm: str = "") -> Metric:
    return Metric(f"mlx_sidecar_{name}", "gauge", unit, labels, help_, "sidecar", vllm=vllm)


_STATE = (
    _gauge("info", "", "1; labels tell the sidecar", ("version", "backend", "device", "numerics", "policy")),
    _gauge("engine_state", "", "1 for the state that the engine is in, 0 for the others", ("state",)),
    _gauge("health", "", "1 for the sidecar's health, 0 for the others", ("status",)),
    _gauge("ready", "", "1 if a token could be decoded now"),
    Metric("mlx_sidecar_engine_restarts", "counter", "", (), "Times that the engine was started again", "sidecar"),
    _gauge("uptime_seconds", "seconds", "Time since the sidecar started"),
    _gauge("last_device_operation_seconds", "seconds", "Age of the device's last completed operation"),
    _gauge("queue_running", "", "Sequences that the engine works on", vllm="num_requests_running"),
    _gauge("queue_waiting", "", "Requests that wait for the engine", vllm="num_requests_waiting"),
    _gauge("queue_limit", "", "Requests that may wait; more are refused"),
)
_MEMORY = (
    _gauge("memory_bytes", "bytes", "Memory that the engine has given away, by its owner", ("owner",)),
    _gauge("memory_limit_bytes", "bytes", "The engine's limit of memory"),
    _gauge("memory_free_bytes", "bytes", "What is left below the limit"),
    _gauge("memory_ceiling_bytes", "bytes", "The lower limit since allocations failed; absent if none did"),
    _gauge("device_memory_bytes", "bytes", "Memory of the device: used, peak, buffers kept for reuse", ("kind",)),
    _gauge("resident_bytes", "bytes", "Resident memory of a process, as the system counts it", ("process",)),
)
_ENGINE = (
    _gauge("engine_parked", "", "Sequences that gave way and will go on"),
    _gauge("engine_batch_rows", "", "Rows of the last step"),
    Metric("mlx_sidecar_engine_device_seconds", "counter", "seconds", (), "Time that the device was busy", "sidecar"),
    _gauge("engine_streams", "", "Streams that have not ended"),
    _gauge("engine_held", "", "Streams that wait for the engine to come back"),
    _gauge("engine_journal_bytes", "bytes", "What is kept to go on with streams after the engine's death"),
    _gauge("engine_sessions", "", "Sessions"),
    _gauge("engine_sessions_bytes", "bytes", "What is kept of sessions"),
)
_CACHE = (
    _gauge("cache_bytes", "bytes", "The prefix cache", ("tier",)),
    _gauge("cache_limit_bytes", "bytes", "Its limit", ("tier",)),
    _gauge("cache_blocks", "", "Its blocks of 64 tokens", ("tier",)),
    _gauge("cache_pinned_bytes", "bytes", "The part of memory that is not evicted"),
    _gauge("cache_index_bytes", "bytes", "Its index"),
    _gauge("cache_disk_pending_bytes", "bytes", "Bytes to be written to disk"),
    _gauge("cache_disk_files", "", "Files on disk"),
    _gauge("cache_disk_state", "", "1 for the state that the tier on disk is in, 0 for the others", ("state",)),
    Metric(
        "mlx_sidecar_cache_hit_tokens",
        "counter",
        "tokens",
        ("tier",),
        "Tokens of prompts that were found in the cache",
        "sidecar",
        vllm="prefix_cache_hits",
    ),
)

ENGINE_COUNTERS: Mapping[str, tuple[str, str]] = {
    "requests": ("Sequences that the engine was given", ""),
    "refused": ("Sequences that it refused", ""),
    "prompt_tokens": ("Tokens of prompts", "prompt_tokens, prefix_cache_queries"),
    "cached_tokens": ("Those of them that needed no prefill", "prefix_cache_hits"),
    "prefill_tokens": ("Those that were computed", ""),
    "completion_tokens": ("Tokens of answers", "generation_tokens"),
    "steps": ("Steps of batches", ""),
    "preemptions": ("Sequences that gave way to more urgent ones", "num_preemptions"),
    "cancelled": ("Sequences that were cancelled", ""),
    "deadlines": ("Sequences that their deadline ended", ""),
    "errors": ("Sequences that an error ended", ""),
    "loads": ("Models that were loaded", ""),
    "unloads": ("Models that were unloaded", ""),
    "evictions": ("Models that made room for others", ""),
    "kept_released": ("Cached memory that was released for want of it", ""),
    "parked_for_memory": ("Sequences that gave way for want of memory", ""),
    "waits_for_memory": ("Sequences that waited for memory", ""),
    "refused_for_memory": ("Sequences that were refused for want of memory", ""),
    "allocation_failures": ("Allocations of the device that failed", ""),
    "dropped": ("Sequences that a failed step ended", ""),
    "interruptions": ("Streams that went on in another engine", ""),
    "poisoned": ("Requests that ended the engine twice, and were refused", ""),
}
"""The counters of ``stats``, with their help and vLLM's name."""

CACHE_COUNTERS: Mapping[str, str] = {
    "lookups": "Prompts that were looked up",
    "hits": "Prompts of which some was known",
    "stored_blocks": "Blocks that were added in memory",
    "evicted_blocks": "Blocks that left memory",
    "shared_waits": "Prompts that waited for another's prefill of the same beginning",
    "disk_reads": "Files that were read",
    "disk_read_bytes": "Bytes that were read",
    "disk_writes": "Files that were written",
    "disk_written_bytes": "Bytes that were written",
    "disk_evicted": "Files that made room for others",
    "disk_damaged": "Files that were damaged, and so misses",
    "disk_foreign": "Files that were of another model or version",
    "disk_unwritten": "Blocks that could not be written",
    "writes_dropped": "Blocks that were not written because too many waited",
}
"""The counters of ``cache/stats`` but for those of tokens, with their help."""

ENGINE_HISTOGRAMS: Mapping[str, tuple[str, str]] = {
    "queue_s": ("Time from a sequence's arrival to its prefill", "request_queue_time_seconds"),
    "prefill_s": ("Time from the begin of its prefill to its first token", "request_prefill_time_seconds"),
    "first_token_s": ("Time from a sequence's arrival to its first token", "time_to_first_token_seconds"),
    "gap_s": ("Time between two tokens of a sequence", "inter_token_latency_seconds"),
    "decode_per_s": ("Tokens a second of a sequence, from its first token on", ""),
    "decode_step_s": ("Time of a step that only decodes", ""),
    "prefill_step_s": ("Time of a step that prefills", ""),
    "load_step_s": ("Time of a step of loading a model", ""),
    "permit_wait_s": ("Time that work waited for the device", ""),
    "batch_rows": ("Rows of a step", ""),
}
"""The histograms of ``stats``, with their help and vLLM's name."""


def engine_name(member: str) -> str:
    """The metric of a member of ``stats``, whose ending is its unit."""
    stem, _, unit = member.rpartition("_")
    if unit == "s":
        stem, unit = (f"{stem.removesuffix('_per')}_rate", "") if stem.endswith("_per") else (stem, "_seconds")
        return f"mlx_sidecar_engine_{stem}{unit}"
    return f"mlx_sidecar_engine_{member}"


def histogram_name(member: str) -> str:
    """The metric of a histogram of ``stats``; one of rows has a gauge beside it, with the same member's name."""
    return engine_name("step_rows" if member == "batch_rows" else member)


def cache_name(member: str) -> str:
    """The metric of a counter of ``cache/stats``."""
    return f"mlx_sidecar_cache_{member}"


def _unit(member: str) -> str:
    ending = member.rpartition("_")[2]
    return {"tokens": "tokens", "bytes": "bytes"}.get(ending, "")


def _engine_counters() -> Iterable[Metric]:
    for member, (help_, vllm) in ENGINE_COUNTERS.items():
        yield Metric(engine_name(member), "counter", _unit(member), (), help_, "sidecar", vllm=vllm)


def _cache_counters() -> Iterable[Metric]:
    for member, help_ in CACHE_COUNTERS.items():
        yield Metric(cache_name(member), "counter", _unit(member), (), help_, "sidecar")


def _engine_histograms() -> Iterable[Metric]:
    for member, (help_, vllm) in ENGINE_HISTOGRAMS.items():
        unit = "tokens a second" if member.endswith("_per_s") else "seconds" if member.endswith("_s") else ""
        yield Metric(histogram_name(member), "histogram", unit, (), help_, "sidecar", vllm=vllm)


OF_SIDECAR = (*_STATE, *_MEMORY, *_ENGINE, *_engine_counters(), *_engine_histograms(), *_CACHE, *_cache_counters())
