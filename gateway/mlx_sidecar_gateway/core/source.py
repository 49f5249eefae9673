"""A source is one generation, wherever it is made: a stream of the sidecar, or of a provider."""

from __future__ import annotations

from collections.abc import Generator
from types import TracebackType
from typing import Any, Protocol, Self

from mlx_sidecar_client import GenerateResult
from mlx_sidecar_client.stream import PassOn


class Source(Protocol):
    """A generation that begins when it is first used, and ends when its block is left.

    It raises as the Python client's ``Stream``, or ``Refused``.
    """

    @property
    def result(self) -> GenerateResult:
        """The result, once there is one."""
        ...

    @property
    def has_result(self) -> bool:
        """Whether there is one."""
        ...

    @property
    def delivered_tokens(self) -> int:
        """How many tokens of the answer have been delivered until now; about as many, where nothing tells them."""
        ...

    async def take_plain(self, pass_on: PassOn | None = None) -> list[dict[str, Any]]:
        """Wait for at least one delta and return all that have come, in the protocol's shape; none at the end.

        Deltas may be given to ``pass_on`` during the wait; those that it takes are not returned.
        """
        ...

    def __await__(self) -> Generator[Any, None, GenerateResult]:
        """The result without deltas."""
        ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None
    ) -> None: ...
