"""An upstream is a server of another that answers over HTTP; each answer of it is a source."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Generator, Mapping
from contextlib import suppress
from types import TracebackType
from typing import Any, Final, Literal, Self

import anyio
import httpx2
import orjson

from mlx_sidecar_client import GenerateResult
from mlx_sidecar_client.stream import PassOn

from ..core.headers import PRIORITY
from ..surfaces.faults import Refused
from . import anthropic_request, openai_request
from .anthropic_answer import AnthropicAnswer
from .capabilities import Wish, wish_of
from .events import EventDecoder, Malformed
from .failures import TIMED_OUT, UNAVAILABLE, ProviderFailed, failure_of, said_in
from .gathered import Delta, Gathered
from .limits import Limits
from .openai_answer import OpenAIAnswer
from .table import UpstreamProvider

VIA: Final = "x-mlx-sidecar-via"
"""The ids of the gateways that a request came through, by which one that comes round again is known."""

_EVENT_LIMIT_BYTES: Final = 2**20
_ERROR_LIMIT_BYTES: Final = 2**16
_LAST_WORDS_S: Final = 1.0
_DRAIN_S: Final = 0.05  # in which the end of a body comes that follows its last event at once
_PROBE_S: Final = 5.0
_OVERLOADED: Final = frozenset({"overloaded", "overloaded_error", "rate_limit_error", "rate_limit_exceeded"})


class Upstream:
    """The way to one upstream: its connections, its key, and the limits that it has told.

    Nothing of a client's headers goes to it; ``key`` is its own. ``clock_s`` is that of the limits.
    """

    def __init__(
        self, name: str, settings: UpstreamProvider, key: str | None, limits: Limits, clock_s: Callable[[], float]
    ) -> None:
        self.name = name
        self.settings = settings
        self.key = key
        self.limits = limits
        self.clock_s = clock_s
        self.kind: Literal["upstream"] = "upstream"
        patience = httpx2.Timeout(None, connect=settings.connect_timeout_s, pool=settings.connect_timeout_s)
        self._client = httpx2.AsyncClient(
            headers=self._headers(),
            timeout=patience,
            limits=httpx2.Limits(max_connections=settings.connection_limit),
            follow_redirects=False,  # the key is for this address alone
            trust_env=False,
        )

    async def close(self) -> None:
        """Close all connections."""
        await self._client.aclose()

    def wish(self, options: Mapping[str, Any], assumed: frozenset[str], *, ranks: bool) -> Wish:
        """The part of a request that goes to it. Raises ``UnsupportedParameter`` and ``InvalidParams``."""
        return wish_of(options, assumed, self.settings.honoured, self.name, ranks=ranks)

    def generate(self, model: str, wish: Wish, via: str) -> UpstreamSource:
        """One answer of it. Raises ``Refused`` and ``UnsupportedParameter`` for what has no place in its interface."""
        return UpstreamSource(self, self._request(model, wish, via), wish)

    async def send(self, request: httpx2.Request) -> httpx2.Response:
        """The response, whose body is still to be read."""
        return await self._client.send(request, stream=True)

    async def is_well(self) -> bool:
        """Whether it answers a question that costs it nothing."""
        path = "/models" if self.settings.kind == "openai" else "/v1/models"
        try:
            with anyio.fail_after(_PROBE_S):
                async with self._client.stream("GET", self.settings.base_url + path) as response:
                    return response.status_code < 500 and response.status_code not in (401, 403, 408, 429)
        except (httpx2.HTTPError, TimeoutError):
            return False

    def _request(self, model: str, wish: Wish, via: str) -> httpx2.Request:
        if self.settings.kind == "openai":
            path, body = openai_request.PATH, openai_request.body_of(self.settings, model, wish, self.name)
        else:
            path = anthropic_request.PATH
            body = anthropic_request.body_of(self.settings, model, wish, self.name)
        headers = {VIA: via, "content-type": "application/json", "accept": "text/event-stream"}
        if wish.priority is not None:
            headers[PRIORITY] = wish.priority
        return self._client.build_request(
            "POST", self.settings.base_url + path, content=orjson.dumps(body), headers=headers
        )

    def _headers(self) -> dict[str, str]:
        # A body that is not compressed cannot grow beyond the bound.
        headers = {"user-agent": "mlx-sidecar-gateway", "accept-encoding": "identity"}
        if self.settings.kind == "anthropic":
            headers["anthropic-version"] = anthropic_request.VERSION
            return headers | ({} if self.key is None else {"x-api-key": self.key})
        return headers | ({} if self.key is None else {"authorization": f"Bearer {self.key}"})


class UpstreamSource:
    """One answer of an upstream, read as fast as its client takes it.

    It is whole, or raises: a body that ends early, that is no answer of the interface or that is longer than allowed,
    and a silence that is too long, are failures of the provider.
    """

    def __init__(self, upstream: Upstream, request: httpx2.Request, wish: Wish) -> None:
        self._upstream = upstream
        self._settings = upstream.settings
        self._request = request
        self._gathered = Gathered()
        stop, seed = tuple(wish.options.get("stop", ())), wish.options.get("seed", 0)
        self._answer: OpenAIAnswer | AnthropicAnswer = (
            OpenAIAnswer(self._gathered, stop, seed)
            if self._settings.kind == "openai"
            else AnthropicAnswer(self._gathered, seed)
        )
        self._decoder = EventDecoder(_EVENT_LIMIT_BYTES)
        self._response: httpx2.Response | None = None
        self._pieces: AsyncIterator[bytes]
        self._bytes = 0
        self._deadline_s = 0.0
        self._result: GenerateResult | None = None

    @property
    def result(self) -> GenerateResult:
        assert self._result is not None
        return self._result

    @property
    def has_result(self) -> bool:
        return self._result is not None

    @property
    def delivered_tokens(self) -> int:
        return self._gathered.tokens

    async def take_plain(self, pass_on: PassOn | None = None) -> list[Delta]:
        if self._result is not None:
            return []
        try:
            return await self._take()
        except Malformed as malformed:
            raise self._failed(f"broke off: {malformed}") from None
        except httpx2.PoolTimeout:
            raise self._failed("has as many requests as it may have", UNAVAILABLE, is_busy=True) from None
        except httpx2.TimeoutException:
            raise self._failed("could not be reached in time", TIMED_OUT) from None
        except httpx2.HTTPError as error:
            # Its class tells more than its text, which may be empty.
            raise self._failed(f"could not be heard: {type(error).__name__}") from None

    def __await__(self) -> Generator[Any, None, GenerateResult]:
        return self._whole().__await__()

    async def _whole(self) -> GenerateResult:
        while await self.take_plain():
            pass
        return self.result

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None
    ) -> None:
        if self._response is not None:
            if self._result is not None:
                # A body that is read to its end leaves its connection for the next request.
                with anyio.move_on_after(_DRAIN_S), suppress(httpx2.HTTPError):
                    while await anext(self._pieces, b""):
                        pass
            with anyio.move_on_after(_LAST_WORDS_S, shield=True), suppress(httpx2.HTTPError):
                await self._response.aclose()

    async def _take(self) -> list[Delta]:
        if self._response is None:
            self._deadline_s = anyio.current_time() + self._settings.first_timeout_s
            await self._begin()
        while True:
            piece = await self._piece()
            deltas = self._read(piece)
            if self._answer.error is not None:
                raise self._told(self._answer.error)
            if self._answer.is_done or not piece:
                # The deltas come first: the next call finds the result.
                self._result = self._answer.result()
                return deltas
            if deltas:
                return deltas

    def _read(self, piece: bytes) -> list[Delta]:
        return [delta for event in self._decoder.feed(piece) for delta in self._answer.take(event)]

    async def _begin(self) -> None:
        with self._patience("did not begin an answer"):
            response = self._response = await self._upstream.send(self._request)
            self._gathered.accepted()
            headers = {name.lower(): value for name, value in response.headers.items()}
            self._upstream.limits.heard(headers, self._upstream.clock_s())
            self._pieces = response.aiter_raw()
            if response.status_code != 200:
                raise await self._refusal(response, headers)
        type_ = headers.get("content-type", "").partition(";")[0].strip().lower()
        if type_ != "text/event-stream" or headers.get("content-encoding", "identity") != "identity":
            raise self._failed(f"answered with {type_[:40] or 'no content-type'}, which is no stream of events")

    async def _refusal(self, response: httpx2.Response, headers: Mapping[str, str]) -> Refused:
        status, body = response.status_code, b""
        async for piece in self._pieces:
            body += piece
            if len(body) > _ERROR_LIMIT_BYTES:
                break
        wait_s = None
        if status in (429, 503, 529):
            wait_s = self._upstream.limits.refused(status, headers, self._upstream.clock_s())
        may_retry = headers.get("x-should-retry") != "false"
        return failure_of(self._upstream.name, status, body, wait_s, self._upstream.key, may_retry=may_retry)

    async def _piece(self) -> bytes:
        """The next piece of the body; b"" at its end."""
        with self._patience("fell silent"):
            piece = await anext(self._pieces, b"")
        self._bytes += len(piece)
        if self._bytes > self._settings.answer_limit_bytes:
            raise self._failed(f"answered with more than {self._settings.answer_limit_bytes} bytes")
        return piece

    def _patience(self, because: str) -> _Patience:
        """Until something was said the time for that counts, and then the time between two pieces."""
        has_said, idle_s = self._gathered.has_said, self._settings.idle_timeout_s
        left_s = idle_s if has_said else max(0.0, self._deadline_s - anyio.current_time())
        return _Patience(left_s, self._failed(because, TIMED_OUT))

    def _told(self, error: Any) -> ProviderFailed:
        """The failure that the upstream itself told in its stream."""
        message, code = said_in(error, self._upstream.key)
        is_busy = code in _OVERLOADED
        return self._failed(f"broke off: {message}", UNAVAILABLE if is_busy else None, is_busy=is_busy)

    def _failed(self, because: str, kind: str | None = None, *, is_busy: bool = False) -> ProviderFailed:
        if kind is None:
            return ProviderFailed(self._upstream.name, because)
        return ProviderFailed(self._upstream.name, because, kind, is_busy=is_busy)


class _Patience:
    """A block that may last so long, and then fails as told."""

    def __init__(self, seconds: float, failure: ProviderFailed) -> None:
        self._scope = anyio.fail_after(seconds)
        self._failure = failure

    def __enter__(self) -> None:
        self._scope.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None
    ) -> bool | None:
        try:
            return self._scope.__exit__(kind, value, tb)
        except TimeoutError:
            raise self._failure from None
