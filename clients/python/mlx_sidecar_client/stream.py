"""A stream is one generation, with its deltas as they come and its result."""

from __future__ import annotations

import threading
import warnings
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Mapping
from functools import partial
from types import TracebackType
from typing import Any, Generic, Protocol, Self

import anyio

from .call import Call
from .errors import SidecarLost, from_wire
from .events import Channels, Event
from .forms import Form, T
from .protocol.generate_result import GenerateResult
from .protocol.notifications import StreamDelta

PassOn = Callable[[list[dict[str, Any]]], bool]
"""Takes deltas as they are on the wire; False if it cannot now. It must not block, nor use the stream."""


class Wire(Protocol):
    """The part of a connection that a stream uses."""

    def call(self, method: str, params: Mapping[str, Any], *, stream: bool = False) -> Call: ...
    def notify(self, method: str, params: Mapping[str, Any]) -> None: ...
    def cancel(self, call: Call) -> None: ...


class Stream(Generic[T]):
    """A ``generate`` that begins when it is first used, and ends when its block or its iterator is left.

    ``async for delta in stream`` gives the deltas, ``async for event in stream.events()`` the same by their channels,
    and ``result`` is there afterwards; ``await stream`` gives the result without deltas. In an ``async with`` block
    leaving the block cancels. Without one, so does dropping the iterator, which CPython does when the loop is left,
    unless an exception's traceback still holds it.

    Either way raises the ``RpcError`` of its kind if the generation was refused or broke off (then ``result`` holds the
    text so far), and ``SidecarLost`` if the sidecar ended after text had been delivered.
    """

    def __init__(
        self,
        connect: Callable[[], Awaitable[Wire]],
        params: Mapping[str, Any],
        window: int | None = None,
        form: Form[T] | None = None,
    ) -> None:
        self._connect = connect
        self._form: Form[T] = form or Form(None)
        wire = self._form.wire
        self._params = params if wire is None else {**params, "response_format": wire}
        self._window = window
        self._wire: Wire | None = None
        self._call: Call | None = None
        self._ready: deque[StreamDelta] = deque()
        self._held: list[dict[str, Any]] = []  # delivered deltas that ``pass_on`` did not take
        self._texts: list[str] = []
        self._tokens: list[int] = []
        self.channels = Channels()
        self._unacknowledged = 0
        self._last_seq = 0
        self._sent_again = False
        self._is_over = False
        self._result: GenerateResult | None = None
        self._thread: int | None = None

    @property
    def result(self) -> GenerateResult:
        """The result. Raises ``RuntimeError`` before the end, and after an end without a result."""
        if self._result is None:
            raise RuntimeError("there is no result: the stream has not ended, or was left, refused or lost")
        return self._result

    @property
    def has_result(self) -> bool:
        """Whether ``result`` is there."""
        return self._result is not None

    @property
    def delivered_tokens(self) -> int:
        """How many tokens of the answer have been delivered until now."""
        return len(self._tokens)

    @property
    def parsed(self) -> T:
        """The value that the answer holds, of the type that ``response_format`` names; raises as ``Form.parsed``."""
        return self._form.parsed(self.result)

    @property
    def reasoning(self) -> str:
        """The reasoning that has been delivered until now."""
        return self.channels.reasoning

    def cancel(self) -> None:
        """Cancel the generation. Text so far is still delivered, and ``finish_reason`` is "cancelled"."""
        if self._call is None or self._wire is None:
            self._is_over = True
        else:
            self._wire.cancel(self._call)

    def leave(self) -> None:
        """Cancel, and drop all further deltas and the result. Harmless after the end."""
        if not self._is_over:
            self.cancel()
            self._is_over = True
            self._ready.clear()
            self._held.clear()

    # Deltas.

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> StreamDelta:
        if not self._ready:
            self._ready.extend(await self.take())
        if not self._ready:
            raise StopAsyncIteration
        return self._ready.popleft()

    async def events(self) -> AsyncIterator[Event]:
        """The deltas by their channels. Where it may be left early, use it in the stream's ``async with`` block."""
        async for delta in self:
            for event in self.channels.events_of(delta):
                yield event

    async def take(self) -> list[StreamDelta]:
        """Wait for at least one delta and return all that have come; none at the end, when ``result`` is set."""
        deltas = [StreamDelta.model_validate(params, extra="ignore") for params in await self.take_plain()]
        for delta in deltas:
            self.channels.add(delta)
        return deltas

    async def take_plain(self, pass_on: PassOn | None = None) -> list[dict[str, Any]]:
        """``take``, with deltas as they are on the wire: for programs that pass them on and save the validation.

        With ``pass_on`` deltas that come during the wait are given to it, in the turn of the event loop in which they
        are read, which saves a switch of tasks for each. Those that it takes are delivered and acknowledged, and the
        wait goes on; those that it does not are returned.

        ``channels`` hears nothing of them.
        """
        while not self._is_over:
            call = self._call or await self._begin()
            self._acknowledge()
            await self._wait(call, None if pass_on is None else partial(self._passed_on, call, pass_on))
            if self._held:
                held, self._held = self._held, []
                return held
            if call.is_lost and not self._texts and not self._sent_again:
                self._call, self._sent_again = None, True
            elif call.deltas:
                return self._deliver(call)
            else:
                self._finish(call)
        return []

    async def _begin(self, *, stream: bool = True) -> Call:
        self._thread = threading.get_ident()
        self._wire = await self._connect()
        window = {} if self._window is None or not stream else {"window": self._window}
        self._call = self._wire.call("generate", {**window, **self._params}, stream=stream)
        return self._call

    async def _wait(self, call: Call, pass_on: Callable[[], bool] | None = None) -> None:
        try:
            await call.wait_for_news(pass_on)
        except anyio.get_cancelled_exc_class():
            self.leave()
            raise

    def _passed_on(self, call: Call, pass_on: PassOn) -> bool:
        if self._is_over:
            return False
        deltas = self._deliver(call)
        if pass_on(deltas):
            self._acknowledge()
            return True
        self._held = deltas
        return False

    def _deliver(self, call: Call) -> list[dict[str, Any]]:
        deltas = list(call.deltas)
        call.deltas.clear()
        for delta in deltas:
            self._texts.append(delta["text"])
            self._tokens += delta["tokens"]
        self._unacknowledged += len(deltas)
        self._last_seq = deltas[-1]["seq"]
        return deltas

    def _acknowledge(self) -> None:
        """Acknowledge all delivered deltas, because the caller asks for more."""
        window = self._params.get("window", self._window)
        if window is not None and 2 * self._unacknowledged >= window and self._wire and self._call:
            self._wire.notify("stream/ack", {"stream": self._call.stream, "seq": self._last_seq})
            self._unacknowledged = 0

    def _finish(self, call: Call) -> None:
        self._is_over = True
        try:
            self._settle(call.result())
        except SidecarLost as lost:
            raise lost.anew("".join(self._texts), self._tokens) from None

    def _settle(self, result: Mapping[str, Any]) -> None:
        self._result = GenerateResult.model_validate({**self._delivered(result), **result}, extra="ignore")
        if self._result.finish_reason == "error":
            raise from_wire(result.get("error") or {})

    def _delivered(self, result: Mapping[str, Any]) -> Mapping[str, Any]:
        """The text of a stream, which ``echo_text: false`` leaves out of its ``result``."""
        if "text" in result or self._params.get("echo_text") is not False:
            return {}
        reasoning = {"reasoning": self.reasoning} if self.reasoning else {}
        return {"text": "".join(self._texts), "tokens": self._tokens, **reasoning}

    # Without the remaining deltas.

    def __await__(self) -> Generator[Any, None, GenerateResult]:
        return self.whole().__await__()

    async def whole(self) -> GenerateResult:
        """Wait for the result, as ``await stream`` does."""
        if self._call is not None or self._is_over:
            while await self.take():
                pass
            return self.result
        call = await self._begin(stream=False)
        await self._wait(call)
        if call.is_lost and not self._sent_again:
            self._call, self._sent_again = None, True
            return await self.whole()
        self._finish(call)
        return self.result

    # Leaving the block, or dropping the iterator.

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.leave()

    def __del__(self) -> None:
        call = getattr(self, "_call", None)
        if call is None or call.is_settled or self._is_over:
            return
        if threading.get_ident() == self._thread:
            self.leave()
        else:
            warnings.warn(
                f"a stream was dropped in another thread and runs on: {self!r}", ResourceWarning, stacklevel=1
            )
