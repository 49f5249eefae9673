"""Parameters of methods as keyword arguments; tests compare them with the models of ``protocol``."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypedDict

from .protocol.notifications import EngineStateParams, ProgressParams

OnEngineState = Callable[[EngineStateParams], None]
OnProgress = Callable[[ProgressParams], None]

Priority = Literal["critical", "high", "normal", "low"]


class SpawnOptions(TypedDict, total=False):
    """Options for starting a sidecar.

    command: The executable, or the words of the command before ``serve``. By default the environment variable
        ``MLX_SIDECAR``, else ``mlx-sidecar`` on the search path.
    options: Options of ``serve``, e.g. ``["--cache-dir"]``.
    cwd, env: Its working directory and its whole environment; by default ours.
    respawn: Whether another one is started when it dies (True); given up after five deaths within 60 s.
    window: Unread deltas (64) at which the engine pauses a stream; None for no bound.
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
    """The prompt: exactly one of ``prompt``, ``messages`` and ``tokens``. None is as if left out."""

    prompt: str | None
    messages: Sequence[Mapping[str, Any]] | None
    tools: Sequence[Mapping[str, Any]] | None
    template_args: Mapping[str, Any] | None
    tokens: Sequence[int] | None
    escape_special: bool | None


class GenerateOptions(PromptOptions, total=False):
    """Parameters of ``generate``, except ``model``, and ``stream``, which the client chooses."""

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
    """Parameters of ``load``, except ``model``, and ``progress``, which the client chooses."""

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
    """Parameters of ``cache/warm``, except ``model``."""

    priority: Priority | None
    deadline_s: float | None


class RenderOptions(TypedDict, total=False):
    """Parameters of ``render``, except ``model`` and ``messages``."""

    tools: Sequence[Mapping[str, Any]] | None
    template_args: Mapping[str, Any] | None
    add_generation_prompt: bool | None
    escape_special: bool | None
