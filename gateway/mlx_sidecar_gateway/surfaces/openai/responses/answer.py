"""Response objects, and the items of their output."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from mlx_sidecar_client import GenerateResult

from ...events import CUT_SHORT
from ...faults import Fault
from ..common import number
from ..errors import error_of
from .items import sealed

_STATUS: Final = dict.fromkeys(CUT_SHORT, "incomplete")


@dataclass(frozen=True)
class Reply:
    """The parts of a request that its response depends on, or repeats.

    id: 32 hexadecimal digits, which the ids of the response and of its items have in them.
    created: When the request came, in seconds.
    repeated: Members of the response object that repeat the request.
    summarised: Whether reasoning stands in ``summary`` instead of ``content``.
    is_sealed: Whether reasoning items have an ``encrypted_content``.
    """

    id: str
    created: int
    repeated: Mapping[str, Any] = field(default_factory=dict)
    with_logprobs: bool = False
    summarised: bool = False
    is_sealed: bool = False

    @property
    def response_id(self) -> str:
        return f"resp_{self.id}"

    def item_id(self, kind: str, index: int) -> str:
        """The id of the output item number ``index``; ``kind`` begins it."""
        return f"{kind}_{self.id}_{index}"

    def begun(self) -> dict[str, Any]:
        """The response object before its first item."""
        return self._response("in_progress", [])

    def ended(self, output: Sequence[Mapping[str, Any]], result: GenerateResult) -> bytes:
        """The response object of an answer that came to its own end, as JSON."""
        status = _STATUS.get(result.finish_reason, "completed")
        timing = result.timing
        took_s = (timing.first_token_s or timing.queue_s) + (timing.decode_s or 0.0)
        response = self._response(status, output) | {
            "completed_at": self.created + round(took_s) if status == "completed" else None,
            "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
            "usage": usage_of(result),
        }
        return orjson.dumps(response)

    def failed(self, output: Sequence[Mapping[str, Any]], fault: Fault) -> dict[str, Any]:
        """The response object of an answer that broke off."""
        error = error_of(fault)["error"]
        return self._response("failed", output) | {"error": {"code": error["code"], "message": error["message"]}}

    def _response(self, status: str, output: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        return {
            "id": self.response_id,
            "object": "response",
            "created_at": self.created,
            "completed_at": None,
            "status": status,
            "error": None,
            "incomplete_details": None,
            **self.repeated,
            "output": output,
            "usage": None,
        }

    # Items.

    def whole_output(self, result: GenerateResult) -> list[dict[str, Any]]:
        """The items of an answer that was not streamed."""
        output: list[dict[str, Any]] = []
        if result.reasoning:
            output.append(self.reasoning(self.item_id("rs", 0), result.reasoning))
        calls = result.tool_calls or []
        if result.text or not (calls or output):
            status = _STATUS.get(result.finish_reason, "completed") if not calls else "completed"
            logprobs = logprobs_of(entry.model_dump() for entry in result.logprobs or ()) if self.with_logprobs else []
            output.append(message(self.item_id("msg", len(output)), status, [output_text(result.text or "", logprobs)]))
        for call in calls:
            id_ = self.item_id("fc", len(output))
            output.append(function_call(id_, "completed", call.id, call.name, call.arguments))
        return output

    def reasoning(self, id_: str, text: str) -> dict[str, Any]:
        """A reasoning item. Nothing is summarised here: a summary is the reasoning itself."""
        item: dict[str, Any] = {"id": id_, "type": "reasoning", "summary": []}
        if text and self.summarised:
            item["summary"] = [{"type": "summary_text", "text": text}]
        elif text:
            item["content"] = [{"type": "reasoning_text", "text": text}]
        return item | ({"encrypted_content": sealed(text)} if text and self.is_sealed else {})


def message(id_: str, status: str, content: list[dict[str, Any]]) -> dict[str, Any]:
    """A message of the assistant."""
    return {"id": id_, "type": "message", "status": status, "role": "assistant", "content": content}


def output_text(text: str, logprobs: list[dict[str, Any]]) -> dict[str, Any]:
    """The only part of a message."""
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": logprobs}


def function_call(id_: str, status: str, call_id: str, name: str, arguments: str) -> dict[str, Any]:
    """A call of a function."""
    call = {"id": id_, "type": "function_call", "status": status}
    return {**call, "call_id": call_id, "name": name, "arguments": arguments}


def usage_of(result: GenerateResult) -> dict[str, Any]:
    """The ``usage`` object."""
    usage = result.usage
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens},
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens or 0},
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }


def logprobs_of(entries: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The sidecar's log probabilities in OpenAI's shape."""
    return [{**_token(entry), "top_logprobs": [_token(other) for other in entry["top"]]} for entry in entries]


def _token(entry: Mapping[str, Any]) -> dict[str, Any]:
    text = entry["text"]
    # A token that is no whole character has U+FFFD for its bytes, which are not known then; there is no null here.
    known = b"" if "\ufffd" in text else text.encode()
    return {"token": text, "logprob": number(entry.get("logprob")), "bytes": list(known)}
