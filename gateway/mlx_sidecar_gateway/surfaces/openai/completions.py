"""``completions``: one prompt, continued as it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import orjson

from mlx_sidecar_client import GenerateResult

from .. import sse
from ..events import Delta, Text
from ..faults import Fault, Refused
from ..parameters import Harmless, Parameters
from ..repeated import Repeated
from ..surface import Generation, Question
from .common import HARMLESS, HONOURED, finish_reason, includes_usage, number, sampling, usage_of, wants_stream
from .errors import event_of

_MAX_TOKENS = 16  # of a request that says nothing, as OpenAI's

PARAMETERS = Parameters(
    honoured=HONOURED | {"logprobs", "max_tokens", "prompt", "response_format"},
    harmless={
        **HARMLESS,
        "best_of": Harmless("one answer is made", only=(1,)),
        "echo": Harmless("the prompt is not repeated", only=(False,)),
    },
    refused={"suffix": "nothing is put in between two texts here"},
)


@dataclass
class _Reply:
    """The members that every part of one answer repeats, and the place in its text: ``offset`` in characters."""

    id: str
    created: int
    model: str
    with_logprobs: bool
    offset: int = field(default=0, compare=False)

    def body(self, choice: Mapping[str, Any] | None, usage: Mapping[str, Any] | None) -> dict[str, Any]:
        shared = {"id": self.id, "object": "text_completion", "created": self.created, "model": self.model}
        return {**shared, "choices": [] if choice is None else [choice], "usage": usage}

    def choice(
        self, text: str, reason: str | None, logprobs: Sequence[Mapping[str, Any]] | None = None
    ) -> dict[str, Any]:
        told = self._told(logprobs or ()) if self.with_logprobs else None
        return {"index": 0, "text": text, "logprobs": told, "finish_reason": reason}

    def _told(self, entries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        offsets = []
        for entry in entries:
            offsets.append(self.offset)
            self.offset += len(entry["text"])
        return {
            "tokens": [entry["text"] for entry in entries],
            "token_logprobs": [number(entry.get("logprob")) for entry in entries],
            "top_logprobs": [
                {other["text"]: number(other.get("logprob")) for other in entry["top"]} for entry in entries
            ],
            "text_offset": offsets,
        }


def read(question: Question) -> Generation:
    """The generation that a request asks for. Raises ``Refused``."""
    body = question.body
    options = sampling(body) | _prompt(body) | {"max_tokens": body.get("max_tokens", _MAX_TOKENS)}
    options |= {name: body[name] for name in ("logprobs", "response_format") if name in body}
    reply = partial(_Reply, f"cmpl-{question.id}", question.unix_s, question.model, "logprobs" in options)
    return Generation(
        options=options,
        stream=wants_stream(body),
        encoder=lambda: _Encoder(reply(), with_usage=includes_usage(body)),
        whole=lambda result: _whole(reply(), result),
        names={"tokens": "prompt"},
    )


def _prompt(body: Mapping[str, Any]) -> dict[str, Any]:
    """The prompt as text or as tokens; of a list of prompts the only one."""
    prompt = body.get("prompt")
    if isinstance(prompt, list) and prompt and not isinstance(prompt[0], int):
        if len(prompt) > 1:
            raise Refused.parameter("prompt", "one prompt a request", "unsupported_parameter")
        prompt = prompt[0]
    if isinstance(prompt, str):
        return {"prompt": prompt}
    if isinstance(prompt, list) and prompt:
        return {"tokens": prompt}
    raise Refused.parameter("prompt", "a text or a list of tokens is needed")


def _whole(reply: _Reply, result: GenerateResult) -> bytes:
    logprobs = [entry.model_dump() for entry in result.logprobs or ()]
    choice = reply.choice(result.text or "", finish_reason(result), logprobs)
    return orjson.dumps(reply.body(choice, usage_of(result)))


class _Encoder:
    """Writes a completion as chunks; of a delta without log probabilities only its text is encoded."""

    def __init__(self, reply: _Reply, *, with_usage: bool) -> None:
        self._reply = reply
        self._with_usage = with_usage
        self._text = Repeated(lambda text: self._chunk(reply.choice(text, None)))

    def delta(self, event: Delta) -> bytes:
        if not isinstance(event, Text):
            return b""
        if not self._reply.with_logprobs:
            return self._text.around(event.text)
        return self._chunk(self._reply.choice(event.text, None, event.logprobs))

    def ping(self) -> bytes:
        return sse.PING

    def end(self, result: GenerateResult) -> bytes:
        end = self._chunk(self._reply.choice("", finish_reason(result)))
        if self._with_usage:
            end += sse.data(self._reply.body(None, usage_of(result)))
        return end + b"data: [DONE]\n\n"

    def error(self, fault: Fault) -> bytes:
        return event_of(fault)

    def _chunk(self, choice: Mapping[str, Any]) -> bytes:
        return sse.data(self._reply.body(choice, None))
