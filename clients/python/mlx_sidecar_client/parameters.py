"""Parameters as keyword arguments. The contract is ``mlx_sidecar_protocol``; the tests hold these against it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypedDict

from mlx_sidecar_protocol.notifications import EngineStateParams, ProgressParams

OnEngineState = Callable[[EngineStateParams], None]
OnProgress = Callable[[ProgressParams], None]

Priority = Literal["critical", "high", "normal", "low"]


class SpawnOptions(TypedDict, total=False):
    """How to start a sidecar.

    command: The executable, or the words in front of ``serve``. Without it what the environment variable
        ``MLX_SIDECAR`` names, else ``mlx-sidecar`` on the search path.
    options: Of ``serve``, e.g. ``["--cache-dir"]``.
    cwd, env: Its working directory and its whole environment; by default ours.
    respawn: Whether another one is started when it dies (True); five times within a minute, then it is given up.
    window: Deltas of a stream that may wait to be read (64); then the engine pauses that stream. None: no bound.
    on_engine_state: Called with each state of the engine process. Must not block.
    """

    command: str | os.PathLike[str] | Sequence[str] | None
    options: Sequence[str]
    cwd: str | os.PathLike[str] | None
    env: Mapping[str, str] | None
    respawn: bool
    window: int | None
    on_engine_state: OnEngineState | None


class PromptOptions(TypedDict, total=False):
    """What to continue: exactly one of ``prompt``, ``messages`` and ``tokens``. None is as if left out."""

    prompt: str | None
    messages: Sequence[Mapping[str, Any]] | None
    tools: Sequence[Mapping[str, Any]] | None
    template_args: Mapping[str, Any] | None
    tokens: Sequence[int] | None
    escape_special: bool | None


class GenerateOptions(PromptOptions, total=False):
    """Parameters of ``generate`` but ``model``, and ``stream``, which is the client's to choose."""

    window: int | None
    min_interval_ms: int | None
    echo_text: bool | None
    max_tokens: int | None
    temperature: float | None
    top_p: float | None
    top_k: int | None
    min_p: float | None
    repetition_penalty: float | None
    presence_penalty: float | None
    frequency_penalty: float | None
    logit_bias: Mapping[str, float] | None
    seed: int | None
    stop: Sequence[str] | None
    stop_tokens: Sequence[int] | None
    ignore_eos: bool | None
    skip_special: bool | None
    logprobs: int | None
    priority: Priority | None
    deadline_s: float | None
    explain_cache: bool | None


class LoadOptions(TypedDict, total=False):
    """Parameters of ``load`` but ``model`` and ``progress``, which is the client's to choose."""

    path: str | None
    revision: str | None
    adapter: str | None
    pin: bool | None
    ttl_s: float | None
    dtype: Literal["float32", "float16", "bfloat16"] | None


class PrefixOptions(PromptOptions, total=False):
    """The beginning of a conversation, for ``cache/warm`` and ``cache/export``."""

    add_generation_prompt: bool | None


class WarmOptions(PrefixOptions, total=False):
    """Parameters of ``cache/warm`` but ``model``."""

    priority: Priority | None
    deadline_s: float | None


class RenderOptions(TypedDict, total=False):
    """Parameters of ``render`` but ``model`` and ``messages``."""

    tools: Sequence[Mapping[str, Any]] | None
    template_args: Mapping[str, Any] | None
    add_generation_prompt: bool | None
    escape_special: bool | None
