"""Several hosts of one front, in one process: they share the engine, and nothing that one does is told to another."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from mlx_sidecar.config import Config
from mlx_sidecar.front.assembly import Front
from mlx_sidecar.link.control_messages import Load, Loaded, ModelCard
from mlx_sidecar.link.messages import Cancel, Finished, Submit, Timing, ToEngine, Tokens
from tests.support.memory_wire import MemoryWire
from tests.support.puppet import READY, Puppet, on_loop

Frame = dict[str, Any]
CARD = ModelCard("m", "ready", "fake", context_length=1000, vocabulary=257)
ASK = {"model": "m", "prompt": "x", "stream": "s"}


class Host:
    """One host, with its requests and the messages it has heard."""

    def __init__(self, front: Front) -> None:
        self.wire = MemoryWire(self._hear)
        connection = front.connect(self.wire.reader, self.wire.open_writer)
        self.frames: list[Frame] = []
        self._heard = asyncio.Event()
        self.status = asyncio.create_task(connection.run())

    def _hear(self, data: bytes) -> None:
        self.frames += map(json.loads, data.splitlines())
        self._heard.set()

    def send(self, method: str, params: Any = None, **id_: int) -> None:
        self.wire.write(json.dumps({"jsonrpc": "2.0", "method": method, "params": params, **id_}).encode() + b"\n")

    async def wait_for(self, wanted: Callable[[Frame], bool]) -> Frame:
        while (found := next(filter(wanted, self.frames), None)) is None:
            self._heard.clear()
            await self._heard.wait()
        return found

    async def answer(self, id_: int) -> Frame:
        return await self.wait_for(lambda frame: frame.get("id") == id_)

    async def call(self, method: str, params: Any = None, *, id_: int) -> Frame:
        self.send(method, params, id=id_)
        result: Frame = (await self.answer(id_))["result"]
        return result

    async def error(self, method: str, params: Any = None, *, id_: int) -> str:
        self.send(method, params, id=id_)
        kind: str = (await self.answer(id_))["error"]["data"]["kind"]
        return kind

    def told(self, method: str) -> list[Frame]:
        return [frame["params"] for frame in self.frames if frame.get("method") == method]

    @property
    def text(self) -> str:
        """The text of the deltas of all its streams so far."""
        return "".join(delta["text"] for delta in self.told("stream/delta"))

    async def until_text(self, text: str) -> None:
        await self.wait_for(lambda _: self.text == text)


class Two:
    """Two hosts, and the puppet that is their engine."""

    def __init__(self, front: Front, puppet: Puppet) -> None:
        self.puppet = puppet
        self.one, self.other = Host(front), Host(front)
        self._heard: list[ToEngine] = []

    async def hear(self, wanted: Callable[[ToEngine], bool]) -> ToEngine:
        """The next message of that kind to the engine; every load is answered."""
        while (found := next(filter(wanted, self._heard), None)) is None:
            messages = await self.puppet.hear()
            self.puppet.say(*(Loaded(message.op, CARD, 0.0) for message in messages if isinstance(message, Load)))
            self._heard += messages
        self._heard.remove(found)
        return found

    async def generate(self, host: Host) -> int:
        """Have ``host`` ask for a stream, with the id and the name that the other one uses; its number."""
        host.send("generate", ASK, id=1)
        submit = await self.hear(lambda message: isinstance(message, Submit))
        assert isinstance(submit, Submit)
        return submit.seq

    async def both_generate(self) -> tuple[int, int]:
        """The numbers of two streams of which each host has heard a part."""
        numbers = await self.generate(self.one), await self.generate(self.other)
        for host, number, text in zip((self.one, self.other), numbers, ("one", "other"), strict=True):
            self.say(number, text)
            await host.until_text(text)
        return numbers

    async def cancelled(self, number: int) -> None:
        """The engine is told to end that stream, and does."""
        cancel = await self.hear(lambda message: isinstance(message, Cancel))
        assert cancel == Cancel(number)
        self.puppet.say(Finished(number, "cancelled", True, Timing()))

    def say(self, number: int, text: str) -> None:
        self.puppet.say(Tokens(number, list(text.encode())))

    async def the_other_goes_on(self, number: int) -> None:
        """Its stream comes to its end as if it were alone, and it is served as before."""
        self.say(number, " goes on")
        self.puppet.say(Finished(number, "stop", True, Timing()))
        result = (await self.other.answer(1))["result"]
        assert (result["text"], result["finish_reason"]) == ("other goes on", "stop")
        assert self.other.text == "other goes on"
        assert await self.other.call("ping", id_=2) == {}


@asynccontextmanager
async def two_hosts() -> AsyncIterator[Two]:
    puppet = Puppet()
    try:
        async with Front(Config(engine="fake"), puppet.engine) as front:
            two = Two(front, puppet)
            puppet.say(READY)
            yield two
            for host in (two.one, two.other):
                host.wire.end_input()
                await host.status
    finally:
        puppet.close()


def test_two_hosts_use_the_same_ids_and_the_same_names_and_each_hears_its_own_stream() -> None:
    async def test() -> None:
        async with two_hosts() as two:
            numbers = await two.both_generate()
            for number in numbers:
                two.say(number, "!")
                two.puppet.say(Finished(number, "stop", True, Timing()))
            texts = [(await host.answer(1))["result"]["text"] for host in (two.one, two.other)]
            assert texts == [two.one.text, two.other.text] == ["one!", "other!"]
            found = await two.one.call("stream/subscribe", {"stream": "s"}, id_=3)
            assert found["finish_reason"] == "stop"
            await two.one.until_text("one!one!")
            assert two.other.text == "other!"

    on_loop(test)


def test_a_cancel_by_id_or_by_name_is_for_the_request_of_that_host_alone() -> None:
    async def test() -> None:
        for method, params in (("$/cancelRequest", {"id": 1}), ("stream/cancel", {"stream": "s"})):
            async with two_hosts() as two:
                one, other = await two.both_generate()
                two.one.send(method, params)
                await two.cancelled(one)
                assert (await two.one.answer(1))["result"]["finish_reason"] == "cancelled"
                await two.the_other_goes_on(other)

    on_loop(test)


def test_shutdown_and_exit_of_one_host_end_its_own_session() -> None:
    async def test() -> None:
        async with two_hosts() as two:
            one, other = await two.both_generate()
            two.one.send("shutdown", {"cancel": True}, id=2)
            await two.cancelled(one)
            await two.one.answer(2)
            assert await two.one.error("generate", ASK, id_=3) == "shutting_down"
            two.one.send("exit")
            assert await two.one.status == 0
            await two.the_other_goes_on(other)

    on_loop(test)


def test_a_host_that_is_lost_takes_its_requests_along_and_no_other() -> None:
    async def test() -> None:
        async with two_hosts() as two:
            one, other = await two.both_generate()
            two.one.wire.hang_up()
            two.one.wire.end_input()
            await two.cancelled(one)
            await two.one.status
            await two.the_other_goes_on(other)

    on_loop(test)


def test_names_and_windows_of_one_host_are_unknown_to_the_other() -> None:
    async def test() -> None:
        async with two_hosts() as two:
            number = await two.generate(two.one)
            for id_, method in enumerate(("stream/cancel", "stream/subscribe", "stream/ack"), 2):
                params = {"stream": "s", **({"seq": 0} if method == "stream/ack" else {})}
                assert await two.other.error(method, params, id_=id_) == "unknown_stream"
            two.say(number, "one")
            await two.one.until_text("one")
            two.puppet.say(Finished(number, "stop", True, Timing()))
            await two.one.answer(1)

    on_loop(test)


def test_every_host_that_has_initialized_hears_of_the_engine_and_of_logs_until_it_leaves() -> None:
    async def test() -> None:
        async with two_hosts() as two:
            hello = {"protocol_version": 1, "client": {"name": "tests"}}
            results = [await host.call("initialize", hello, id_=1) for host in (two.one, two.other)]
            assert results[0]["instance"] == results[1]["instance"]
            for host in (two.one, two.other):
                await host.wait_for(lambda frame: frame.get("method") == "engine/state")
            two.one.wire.end_input()
            await two.one.status
            heard = len(two.one.frames)
            logging.getLogger("test").warning("a line")
            line = await two.other.wait_for(lambda frame: frame.get("method") == "log")
            assert line["params"]["message"] == "a line"
            assert len(two.one.frames) == heard

    on_loop(test)
