"""Answers of Ollama's ``chat`` and ``generate``: lines of JSON, or one whole object."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import orjson

from mlx_sidecar_client import GenerateResult

from ..events import CUT_SHORT, Delta, Reasoning, Text
from ..faults import Fault
from ..repeated import Repeated
from .faults import body_of

LogprobEntry = dict[str, Any]

_LEAST: Final = -9999.0


@dataclass(frozen=True)
class Answer(ABC):
    """An answer to one request; ``chat`` and ``generate`` put text at different places."""

    model: str
    unix_s: int

    @abstractmethod
    def said(self, text: str, thinking: str = "", calls: Sequence[Any] = ()) -> dict[str, Any]:
        """The members that hold text, reasoning and calls."""

    def piece(self, said: dict[str, Any], logprobs: list[LogprobEntry] | None = None) -> dict[str, Any]:
        """A part of a streamed answer."""
        listed = {"logprobs": [_logprob(entry) for entry in logprobs]} if logprobs else {}
        return {**self._head(), **said, **listed, "done": False}

    def last(self, said: dict[str, Any], reason: str) -> dict[str, Any]:
        """The last part of an answer, or a whole one, without its counts."""
        return {**self._head(), **said, "done": True, "done_reason": reason}

    def without_text(self, reason: str) -> bytes:
        """The whole answer of a request that generates nothing."""
        return _line(self.last(self.said(""), reason))

    def whole(self, result: GenerateResult) -> bytes:
        """The body of an answer that is not streamed."""
        said = self.said(result.text or "", result.reasoning or "", _calls(result))
        entries = [_logprob(entry.model_dump()) for entry in result.logprobs or ()]
        listed = {"logprobs": entries} if entries else {}
        return _line({**self.last(said, _reason(result)), **listed, **_counts(result)})

    def _head(self) -> dict[str, Any]:
        created = datetime.fromtimestamp(self.unix_s, UTC).isoformat().replace("+00:00", "Z")
        return {"model": self.model, "created_at": created}


class ChatAnswer(Answer):
    """The answer of ``chat``: a message."""

    def said(self, text: str, thinking: str = "", calls: Sequence[Any] = ()) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": text}
        if thinking:
            message["thinking"] = thinking
        if calls:
            message["tool_calls"] = calls
        return {"message": message}


class GenerateAnswer(Answer):
    """The answer of ``generate``, which has no tools."""

    def said(self, text: str, thinking: str = "", calls: Sequence[Any] = ()) -> dict[str, Any]:
        return {"response": text, **({"thinking": thinking} if thinking else {})}


class LineEncoder:
    """Writes an answer as lines of JSON; of a delta without log probabilities only its text is encoded.

    Calls are told when all are known to be whole, as Ollama's are objects.
    """

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._text = Repeated(lambda text: _line(answer.piece(answer.said(text))))
        self._thinking = Repeated(lambda text: _line(answer.piece(answer.said("", text))))

    def delta(self, event: Delta) -> bytes:
        if isinstance(event, Text):
            if event.logprobs:
                return _line(self._answer.piece(self._answer.said(event.text), event.logprobs))
            return self._text.around(event.text)
        return self._thinking.around(event.text) if isinstance(event, Reasoning) else b""

    def ping(self) -> bytes:
        # Clients parse every line, so that one without text is all that can be sent.
        return self._text.around("")

    def end(self, result: GenerateResult) -> bytes:
        calls = _calls(result)
        told = _line(self._answer.piece(self._answer.said("", calls=calls))) if calls else b""
        return told + _line({**self._answer.last(self._answer.said(""), _reason(result)), **_counts(result)})

    def error(self, fault: Fault) -> bytes:
        return body_of(fault) + b"\n"


def _calls(result: GenerateResult) -> list[dict[str, Any]]:
    return [
        {"id": call.id, "function": {"index": number, "name": call.name, "arguments": orjson.Fragment(call.arguments)}}
        for number, call in enumerate(result.tool_calls or ())
    ]


def _reason(result: GenerateResult) -> str:
    return "length" if result.finish_reason in CUT_SHORT else "stop"


def _counts(result: GenerateResult) -> dict[str, int]:
    """Counts of tokens, and durations in nanoseconds."""
    timing, usage = result.timing, result.usage
    first_s = timing.first_token_s if timing.first_token_s is not None else timing.queue_s
    return {
        "total_duration": _ns(first_s + (timing.decode_s or 0.0)),
        "load_duration": _ns(timing.load_s),
        "prompt_eval_count": usage.prompt_tokens,
        "prompt_eval_duration": _ns(timing.prefill_s),
        "eval_count": usage.completion_tokens,
        "eval_duration": _ns(timing.decode_s),
    }


def _ns(seconds: float | None) -> int:
    return round((seconds or 0.0) * 1e9)


def _logprob(entry: LogprobEntry) -> LogprobEntry:
    return {**_token(entry), "top_logprobs": [_token(other) for other in entry["top"]]}


def _token(entry: LogprobEntry) -> LogprobEntry:
    # Minus infinity, which JSON does not have: as a null in deltas, as a number in results.
    logprob = entry.get("logprob")
    told = _LEAST if logprob is None else max(logprob, _LEAST)
    return {"token": entry["text"], "logprob": told, "bytes": list(entry["text"].encode())}


def _line(value: dict[str, Any]) -> bytes:
    return orjson.dumps(value) + b"\n"
