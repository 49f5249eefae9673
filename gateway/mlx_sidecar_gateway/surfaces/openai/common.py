"""The parameters, and the parts of answers, that OpenAI's two ways of generating have in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlx_sidecar_client import GenerateResult

from ..events import CUT_SHORT
from ..faults import Refused
from ..parameters import Harmless

# These are options of the sidecar under the same name, which checks their values.
SAME_NAME = (
    "frequency_penalty",
    "ignore_eos",
    "logit_bias",
    "min_p",
    "presence_penalty",
    "repeat_guard",
    "repetition_penalty",
    "seed",
    "skip_special",
    "speculation",
    "stop_tokens",
    "temperature",
    "top_k",
    "top_p",
)

HONOURED = frozenset({*SAME_NAME, "model", "n", "stop", "stream", "stream_options", "stream_options.include_usage"})

HARMLESS: Mapping[str, Harmless] = {
    "stream_options.include_obfuscation": Harmless("chunks are not padded", only=(False,)),
    "user": Harmless("it names the user to OpenAI"),
}

# What OpenAI's own interface has where a request says nothing; the sidecar would be greedy.
_DEFAULTS = {"temperature": 1.0}


def sampling(body: Mapping[str, Any]) -> dict[str, Any]:
    """The options that both ways have. Raises ``Refused``."""
    if (n := body.get("n", 1)) != 1:
        raise Refused.parameter("n", f"one answer a request, not {n!r}", "unsupported_parameter")
    options = {**_DEFAULTS, **{name: body[name] for name in SAME_NAME if name in body}}
    if (stop := body.get("stop")) is not None:
        options["stop"] = [stop] if isinstance(stop, str) else stop
    return options


def finish_reason(result: GenerateResult) -> str:
    """The reason in OpenAI's words, which have none for a loop."""
    return "length" if result.finish_reason in CUT_SHORT else result.finish_reason


def wants_stream(body: Mapping[str, Any]) -> bool:
    """Whether the answer is streamed. Raises ``Refused``."""
    stream = body.get("stream", False)
    if not isinstance(stream, bool):
        raise Refused.parameter("stream", "must be true or false")
    if "stream_options" in body:
        if not stream:
            raise Refused.parameter("stream_options", "only goes with stream")
        if not isinstance(body["stream_options"], dict):
            raise Refused.parameter("stream_options", "must be an object")
    return bool(stream)


def includes_usage(body: Mapping[str, Any]) -> bool:
    """Whether the stream ends with a chunk of usage."""
    return bool(body.get("stream_options", {}).get("include_usage", False))


def usage_of(result: GenerateResult) -> dict[str, Any]:
    """The ``usage`` object."""
    usage = result.usage
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens or 0},
    }


def number(logprob: float | None) -> float:
    """A log probability as OpenAI has it: minus infinity is -9999."""
    return -9999.0 if logprob is None else max(logprob, -9999.0)
