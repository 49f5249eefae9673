"""The adapter for ``clients/conformance``. Usage: ``conformance.py WORD…``, the sidecar's command before ``serve``."""

from __future__ import annotations

import json
import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import anyio

from mlx_sidecar_client import (
    Event,
    ReasoningDelta,
    RpcError,
    Sidecar,
    SidecarLost,
    Stream,
    TextDelta,
    ToolCallDelta,
)

Operation = dict[str, Any]
Answer = dict[str, Any]


class Adapter:
    def __init__(self, sidecar: Sidecar) -> None:
        self._sidecar = sidecar

    async def perform(self, operation: Operation) -> Answer:
        actions: dict[str, Callable[[Operation], Awaitable[Answer]]] = {
            "call": self._call,
            "load": self._load,
            "generate": self._generate,
            "together": self._together,
        }
        act = actions.get(operation["op"])
        if act is None:
            return {"unsupported": f"no operation {operation['op']}"}
        try:
            return await act(operation)
        except (RpcError, SidecarLost) as error:
            return {"error": _told(error)}

    async def _call(self, operation: Operation) -> Answer:
        return {"result": await self._sidecar.request(operation["method"], operation.get("params") or {})}

    async def _load(self, operation: Operation) -> Answer:
        progress: list[Any] = []
        card = await self._sidecar.load(
            **operation["params"], on_progress=lambda report: progress.append(report.to_plain())
        )
        return {"result": card.to_plain(), "progress": progress}

    async def _generate(self, operation: Operation) -> Answer:
        stream = self._sidecar.generate(**operation["params"])
        answer: Answer = {"text": "", "reasoning": "", "tool_calls": [], "tokens": [], "deltas": 0}
        try:
            await _take(stream, answer, operation.get("cancel_after", operation.get("stall_after")))
            if "cancel_after" in operation:
                stream.leave()
                return {**answer, "result": None}
            if "meanwhile" in operation:
                answer["meanwhile"] = [await self.perform(one) for one in operation["meanwhile"]]
            await _take(stream, answer)
        except (RpcError, SidecarLost) as error:
            return {**answer, "error": _told(error)}
        return {**answer, "result": stream.result.to_plain()}

    async def _together(self, operation: Operation) -> Answer:
        operations: Sequence[Operation] = operation["operations"]
        answers: dict[int, Answer] = {}

        async def one(number: int) -> None:
            answers[number] = await self.perform(operations[number])

        async with anyio.create_task_group() as tasks:
            for number in range(len(operations)):
                tasks.start_soon(one, number)
        return {"together": [answers[number] for number in range(len(operations))]}


async def _take(stream: Stream, answer: Answer, most: int | None = None) -> None:
    """Add deltas of ``stream`` to ``answer``, at most ``most`` of them."""
    while most is None or answer["deltas"] < most:
        delta = await anext(stream, None)
        if delta is None:
            return
        for event in stream.channels.events_of(delta):
            _add(event, answer)
        answer["tokens"] += delta.tokens
        answer["deltas"] += 1


def _add(event: Event, answer: Answer) -> None:
    match event:
        case TextDelta(text):
            answer["text"] += text
        case ReasoningDelta(text):
            answer["reasoning"] += text
        case ToolCallDelta(index, id_, name, arguments):
            if index == len(answer["tool_calls"]):
                answer["tool_calls"].append({"id": id_, "name": name, "arguments": ""})
            answer["tool_calls"][index]["arguments"] += arguments


def _told(error: RpcError | SidecarLost) -> Answer:
    if isinstance(error, SidecarLost):
        return {"kind": "sidecar_lost"}
    return {"code": error.code, "kind": error.kind, "retryable": error.retryable, "data": error.data}


async def main() -> None:
    async with Sidecar.spawn(command=sys.argv[1:]) as sidecar:
        adapter = Adapter(sidecar)
        async for line in anyio.wrap_file(sys.stdin):
            sys.stdout.write(json.dumps(await adapter.perform(json.loads(line))) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    anyio.run(main)
