"""Parameters of methods as keyword arguments; tests compare them with the models of ``protocol``."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypedDict

from .protocol.functions import Tool
from .protocol.notifications import EngineStateParams, ProgressParams

OnEngineState = Callable[[EngineStateParams], None]
OnProgress = Callable[[ProgressParams], None]

Priority = Literal["critical", "high", "normal", "low"]
ToolLike = Callable[..., Any] | Tool | Mapping[str, Any]
ToolChoice = Literal["auto", "none", "required"] | Mapping[str, str]


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
    """The prompt: exactly one of ``prompt``, ``messages`` and ``tokens``. None is as if left out.

    tools: Functions with typed parameters, ``Tool``s of them, or mappings as docs/protocol.md has them.
    """

    prompt: str | None
    messages: Sequence[Mapping[str, Any]] | None
    tools: Sequence[ToolLike] | None
    template_args: Mapping[str, Any] | None
    tokens: Sequence[int] | None
    escape_special: bool | None


class AnswerOptions(TypedDict, total=False):
    """Parameters of ``generate`` but for its prompt, the form of its answer, and where that is told."""

    window: int | None
    min_interval_ms: int | None
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
    speculation: Mapping[str, Any] | Literal[False] | None
    parallel_tool_calls: bool | None
    tool_format: str | None
    reasoning_budget: int | None
    repeat_guard: int | None
    context_overflow: Literal["refuse", "drop_oldest"] | None
    adapter: str | None


class GenerateOptions(PromptOptions, AnswerOptions, total=False):
    """Parameters of ``generate``, except ``model``, ``response_format``, and ``stream``, which the client chooses."""

    echo_text: bool | None
    output: Literal["parsed", "raw"] | None
    tool_choice: ToolChoice | None
    session: str | None
    at: str | None
    render: Literal["turns", "template"] | None


class RoundOptions(AnswerOptions, total=False):
    """Parameters of each generation of ``run_tools``."""

    template_args: Mapping[str, Any] | None
    escape_special: bool | None


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

    tools: Sequence[ToolLike] | None
    template_args: Mapping[str, Any] | None
    add_generation_prompt: bool | None
    escape_special: bool | None


class EmbedAllOptions(TypedDict, total=False):
    """Parameters of ``embed``, except ``model``, ``input`` and ``encoding``."""

    pooling: Literal["mean", "cls", "last", "max"] | None
    dimensions: int | None
    normalize: bool | None
    truncate: bool | None
    instruction: str | None
    prompt: str | None
    priority: Priority | None
    deadline_s: float | None


class EmbedOptions(EmbedAllOptions, total=False):
    """Parameters of ``embed``, except ``model`` and ``input``."""

    encoding: Literal["float", "base64"] | None


class RerankOptions(TypedDict, total=False):
    """Parameters of ``rerank``, except ``model``, ``query`` and ``documents``."""

    top_n: int | None
    instruction: str | None
    truncate: bool | None
    priority: Priority | None
    deadline_s: float | None


def on_the_wire(params: Mapping[str, Any]) -> Mapping[str, Any]:
    """``params`` with functions among ``tools`` described as the protocol has it. Raises ``TypeError`` as ``Tool``."""
    if not params.get("tools"):
        return params
    tools = [tool if isinstance(tool, Mapping) else tool_of(tool).to_plain() for tool in params["tools"]]
    return {**params, "tools": tools}


def tool_of(tool: Callable[..., Any] | Tool) -> Tool:
    """The tool that a function is, if it is not one already."""
    return tool if isinstance(tool, Tool) else Tool(tool)
