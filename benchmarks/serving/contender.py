"""The interface of all contenders."""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self

from .request import Flight, Request


class Contender(ABC):
    """A process with one model. Entering the block starts it and loads the model; leaving it ends it."""

    name: str

    @abstractmethod
    def start(self, request: Request) -> Flight:
        """Send ``request`` now, and return its flight."""

    @abstractmethod
    def cancel(self, flight: Flight) -> None:
        """Cancel as a host of the contender would."""

    @abstractmethod
    async def open(self) -> None: ...

    @abstractmethod
    async def close(self) -> None: ...

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.close()
