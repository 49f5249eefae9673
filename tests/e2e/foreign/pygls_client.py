"""Drives a sidecar with pygls's JsonRPCClient; prints the messages it saw as one JSON object."""

from __future__ import annotations

import asyncio
import json
import os
from collections import defaultdict
from collections.abc import Callable
from typing import Any

from pygls.client import JsonRPCClient
from pygls.exceptions import JsonRpcException


class Client(JsonRPCClient):
    """Keeps the messages that come besides answers."""

    def __init__(self) -> None:
        super().__init__()
        self.deltas: dict[str, list[Any]] = defaultdict(list)
        self.begun: dict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self.complaints: list[str] = []
        self.exit_status: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()

        def on_delta(delta: Any) -> None:
            self.deltas[delta.stream].append(plain(delta))
            self.begun[delta.stream].set()

        self.feature("stream/delta")(on_delta)  # marks what it is given, so that must be a function and no method

    def report_server_error(self, error: Exception, source: Any) -> None:
        self.complaints.append(f"{source}: {error!r}")

    async def server_exit(self, server: asyncio.subprocess.Process) -> None:
        self.exit_status.set_result(server.returncode)

    async def call(self, method: str, params: Any = None) -> Any:
        return plain(await self.protocol.send_request_async(method, params))

    async def error(self, method: str) -> Any:
        try:
            return await self.call(method)
        except JsonRpcException as error:
            return {"code": error.code, "data": plain(error.data)}

    async def cancelled(self, stream: str, cancel: Callable[[str], Any]) -> Any:
        """The result of a long generation; ``cancel`` is called with its id after its first delta."""
        id_ = f"id of {stream}"
        params = {"model": "fake?tokens=100000&delay_ms=5", "prompt": "Hello", "stream": stream}
        answer = self.protocol.send_request_async("generate", params, msg_id=id_)
        await self.begun[stream].wait()
        await cancel(id_)
        return plain(await answer)

    async def cancel_by_id(self, id_: str) -> None:
        self.protocol.notify("$/cancelRequest", {"id": id_})


def plain(value: Any) -> Any:
    """JSON again: the library makes named tuples of objects."""
    if hasattr(value, "_asdict"):
        return {name: plain(item) for name, item in value._asdict().items()}
    return [plain(item) for item in value] if isinstance(value, list) else value


async def drive(command: list[str], text: str) -> dict[str, Any]:
    client = Client()
    await client.start_io(*command)
    hello = {"protocol_version": 1, "client": {"name": "pygls"}, "process_id": os.getpid()}
    seen: dict[str, Any] = {"initialize": await client.call("initialize", hello)}
    client.protocol.notify("initialized")
    seen["ping"] = await client.call("ping")
    seen["finished"] = await client.call(
        "generate", {"model": "fake?tokens=40", "prompt": "Hello", "stream": "finished"}
    )
    tokens = (await client.call("tokenize", {"model": "fake", "text": text}))["tokens"]
    seen["returned"] = await client.call("detokenize", {"model": "fake", "tokens": tokens})
    seen["cancelled_by_id"] = await client.cancelled("id", client.cancel_by_id)
    seen["cancelled_by_stream"] = await client.cancelled(
        "stream", lambda _: client.call("stream/cancel", {"stream": "stream"})
    )
    seen["unknown_method"] = await client.error("no/such")
    seen["shutdown"] = await client.call("shutdown")
    client.protocol.notify("exit")
    seen["exit_status"] = await client.exit_status
    await client.stop()  # type: ignore[no-untyped-call]
    return {**seen, "deltas": client.deltas, "errors": client.complaints}


if __name__ == "__main__":
    found = asyncio.run(drive(json.loads(os.environ["SIDECAR_COMMAND"]), json.loads(os.environ["SIDECAR_TEXT"])))
    print(json.dumps(found))
