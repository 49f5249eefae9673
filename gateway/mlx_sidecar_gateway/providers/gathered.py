"""An upstream's answer, gathered into the deltas and the result that the sidecar would have given."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, Final

import orjson

from mlx_sidecar_client import GenerateResult
from mlx_sidecar_client.protocol.generate import FinishReason
from mlx_sidecar_client.protocol.generate_result import CachedByTier, Timing, Usage
from mlx_sidecar_client.protocol.tools import IncompleteToolCall, ToolCall

from .events import Malformed

Delta = dict[str, Any]

_BYTES_A_TOKEN: Final = 4  # about that of English text


@dataclass
class Counts:
    """The tokens that an upstream tells; None where it has not."""

    prompt: int | None = None
    cached: int = 0
    completion: int | None = None
    reasoning: int | None = None


@dataclass
class _Call:
    id: str
    name: str
    arguments: list[str] = field(default_factory=list)


class Gathered:
    """The text, the reasoning and the calls until now. Each method gives the delta that tells what it took."""

    def __init__(self) -> None:
        self._begun_s = monotonic()
        self._accepted_s: float | None = None
        self._first_s: float | None = None
        self._texts: list[str] = []
        self._reasoning: list[str] = []
        self._calls: list[_Call] = []
        self._open = False  # whether the last call may get more arguments
        self._bytes = 0
        self.counts = Counts()

    @property
    def has_said(self) -> bool:
        """Whether anything of an answer has come."""
        return bool(self._texts or self._reasoning or self._calls)

    @property
    def tokens(self) -> int:
        """About the tokens that have come, by their bytes, because upstreams do not tell them one by one."""
        return -(-self._bytes // _BYTES_A_TOKEN)

    @property
    def calls(self) -> int:
        """How many calls have begun."""
        return len(self._calls)

    def accepted(self) -> None:
        """The upstream has begun its response."""
        self._accepted_s = monotonic() - self._begun_s

    def text(self, text: str) -> Delta:
        """More text."""
        self._open = False
        self._texts.append(text)
        return self._delta(text, text=text)

    def reasoning(self, text: str) -> Delta:
        """More reasoning."""
        self._open = False
        self._reasoning.append(text)
        return self._delta(text, reasoning=text)

    def call(self, id_: str, name: str) -> Delta:
        """A call begins; one without an id gets one here, because results name their call by it."""
        self._open = True
        self._calls.append(_Call(id_ or f"call_{secrets.token_hex(8)}", name))
        last = self._calls[-1]
        return self._delta(name, tool_calls=[{"index": len(self._calls) - 1, "id": last.id, "name": name}])

    def arguments(self, fragment: str) -> Delta:
        """More arguments of the last call. Raises ``Malformed`` if something else came after it began."""
        if not self._open:
            raise Malformed("the arguments of its calls are mixed with other parts of the answer")
        self._calls[-1].arguments.append(fragment)
        return self._delta(fragment, tool_calls=[{"index": len(self._calls) - 1, "arguments": fragment}])

    def closing(self) -> list[Delta]:
        """The deltas that the end of a call needs: an upstream may leave out the arguments of one that has none."""
        if self._open and not "".join(self._calls[-1].arguments):
            return [self.arguments("{}")]
        return []

    def result(self, reason: FinishReason, stop_match: str | None = None, seed: int = 0) -> GenerateResult:
        """The result of an answer that came to its end. Raises ``Malformed`` where that cannot be."""
        whole, broken = self._sorted_calls()
        if broken and reason != "length":
            raise Malformed("it ended with a call whose arguments are no JSON object")
        if whole and not broken and reason == "stop":
            reason = "tool_calls"
        return GenerateResult(
            text="".join(self._texts),
            reasoning="".join(self._reasoning) or None,
            tool_calls=whole or None,
            incomplete_tool_calls=broken or None,
            finish_reason=reason,
            stop_match=stop_match,
            usage=self._usage(),
            timing=self._timing(),
            seed=seed,
        )

    def _delta(self, said: str, *, text: str = "", **more: Any) -> Delta:
        if self._first_s is None:
            self._first_s = monotonic() - self._begun_s
        self._bytes += len(said.encode())
        return {"text": text, "tokens": [], **more}

    def _sorted_calls(self) -> tuple[list[ToolCall], list[IncompleteToolCall]]:
        whole, broken = list[ToolCall](), list[IncompleteToolCall]()
        for index, call in enumerate(self._calls):
            text = "".join(call.arguments)
            if is_object(text):
                whole.append(ToolCall(id=call.id, name=call.name, arguments=text))
            else:
                broken.append(IncompleteToolCall(text=text, index=index, id=call.id, name=call.name))
        return whole, broken

    def _usage(self) -> Usage:
        counts = self.counts
        if counts.prompt is None or counts.completion is None:
            raise Malformed("it ended without its usage, which quotas are counted by")
        return Usage(
            prompt_tokens=counts.prompt,
            cached_tokens=counts.cached,
            cached_by_tier=CachedByTier(ram=counts.cached, disk=0),
            completion_tokens=counts.completion,
            reasoning_tokens=counts.reasoning,
        )

    def _timing(self) -> Timing:
        """As seen from here: until the upstream accepted the request, until its first word, and until its last."""
        total_s = monotonic() - self._begun_s
        first_s = total_s if self._first_s is None else self._first_s
        accepted_s = first_s if self._accepted_s is None else min(self._accepted_s, first_s)
        return Timing(
            queue_s=accepted_s, prefill_s=first_s - accepted_s, first_token_s=first_s, decode_s=total_s - first_s
        )


def is_object(text: str) -> bool:
    """Whether ``text`` is the JSON of an object."""
    try:
        return isinstance(orjson.loads(text), dict)
    except orjson.JSONDecodeError:
        return False


def object_of(data: str) -> dict[str, Any]:
    """The object that an event holds. Raises ``Malformed``."""
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError:
        raise Malformed("an event of it is not JSON") from None
    if not isinstance(value, dict):
        raise Malformed("an event of it is no object")
    return value


def text_in(members: Mapping[str, Any], name: str) -> str:
    """A member that is a string; "" where it is absent or null. Raises ``Malformed``."""
    value = members.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise Malformed(f"{name} in an event of it is no string")
    return value


def object_in(members: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """A member that is an object; empty where it is absent or null. Raises ``Malformed``."""
    value = members.get(name)
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise Malformed(f"{name} in an event of it is no object")
    return value


def count_in(members: Mapping[str, Any], name: str) -> int | None:
    """A member that is a count; None where it is absent or null. Raises ``Malformed``."""
    value = members.get(name)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 0):
        raise Malformed(f"{name} in an event of it is no count")
    return value
