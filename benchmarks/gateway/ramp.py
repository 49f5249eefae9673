"""More and more requests: how many are answered, and whether those that are refused are told truly when to come back.

    python -m benchmarks.gateway.ramp [--seconds N]

The engine is the fake one, whose answers take as long as they are told to. Half of the requests are OpenAI's, streamed,
and half Anthropic's, whole.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from ..measure import Row, machine, table

REQUESTS = 605
MODEL = "fake?tokens=40&delay_ms=20"  # 0.8 s an answer, and 32 at once: 40 a second
PATIENCE_S = 60.0  # of a client; an answer that takes longer counts as a timeout
_TEXT_BYTES = 3000
_FEW_BYTES = 16 * (_TEXT_BYTES + 400)  # room for 16 requests at once, so 20 a second: half of what the ramp ends with


@dataclass
class Answer:
    """One request: the statuses that it got, the last of them 0 for a timeout, and its times in seconds.

    ``duration_s`` is that of the last try, ``told_s`` what the client was told before each further one.
    """

    statuses: list[int] = field(default_factory=list)
    duration_s: float = 0.0
    told_s: list[float] = field(default_factory=list)


def ramp(seconds: float = 30.0) -> list[Row]:
    """605 requests whose rate rises from none to 40 a second, twice: with the usual bounds, and with half the room.

    In the second run refused clients come back when they were told to, twice at most, as SDKs do.
    """
    usual = _run(seconds, {})
    # A bound of ``serve``, which the command ``gateway`` has no option for.
    small = _run(seconds, {"MLX_SIDECAR_REQUESTS_LIMIT_BYTES": str(_FEW_BYTES)}, tries=3)
    return [*_rows("usual bounds", usual, "≥ 95 %"), *_rows("half the room", small), *_returns(small)]


def _rows(what: str, answers: list[Answer], asked: str = "") -> Iterator[Row]:
    first = Counter(answer.statuses[0] for answer in answers)
    yield Row(f"{what}: of {len(answers)} answered at once", f"{first[200] / len(answers):.1%}", asked)
    refused = first[503] + first[529]
    yield Row(f"{what}: refused with a time to come back", str(refused))
    ends = Counter(answer.statuses[-1] for answer in answers)
    others = len(answers) - ends[200] - ends[503] - ends[529]
    yield Row(f"{what}: timeouts and other endings", str(others), "0")
    taken = sorted(answer.duration_s for answer in answers if answer.statuses[-1] == 200)
    if taken:
        middle, last = taken[len(taken) // 2], taken[-1]
        yield Row(f"{what}: whole answer, median and longest", f"{middle:.2f} s, {last:.2f} s (0.8 s without a queue)")


def _returns(answers: list[Answer]) -> Iterator[Row]:
    back = [answer for answer in answers if answer.told_s]
    if not back:
        return
    for returns in (1, 2):
        taken = sum(200 in answer.statuses[: returns + 1] for answer in answers)
        share = f"{taken / len(answers):.1%}"
        yield Row(f"half the room: answered with {returns} return{'s' if returns > 1 else ''} at the told time", share)
    yield Row("half the room: the longest time that was told", f"{max(max(answer.told_s) for answer in back):.1f} s")


def _run(seconds: float, settings: dict[str, str], *, tries: int = 1) -> list[Answer]:
    with _gateway(settings) as port:
        return asyncio.run(_all(port, seconds, tries))


@contextmanager
def _gateway(settings: dict[str, str]) -> Iterator[int]:
    """The port of a gateway on the fake engine, with more variables of its environment."""
    command = [sys.executable, "-m", "mlx_sidecar", "gateway", "--listen", "127.0.0.1:0", "--engine", "fake"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ | settings) as process:
        assert process.stderr is not None
        try:
            port = int(process.stderr.readline().rpartition(":")[2])
            assert process.stderr.readline() == "ready\n"
            yield port
        finally:
            process.terminate()


async def _all(port: int, seconds: float, tries: int) -> list[Answer]:
    async with asyncio.TaskGroup() as tasks:
        # The rate rises with time, so that the begins lie on a root.
        begins = [seconds * (number / REQUESTS) ** 0.5 for number in range(REQUESTS)]
        running = [tasks.create_task(_one(port, number, begin_s, tries)) for number, begin_s in enumerate(begins)]
    return [task.result() for task in running]


async def _one(port: int, number: int, begin_s: float, tries: int) -> Answer:
    """The request with this number, and its further tries."""
    await asyncio.sleep(begin_s)
    answer = Answer()
    while True:
        began = time.monotonic()
        try:
            async with asyncio.timeout(PATIENCE_S):
                status, told_s = await _ask(port, number)
        except (TimeoutError, OSError):
            status, told_s = 0, None
        answer.statuses.append(status)
        answer.duration_s = time.monotonic() - began
        if told_s is None or len(answer.statuses) == tries:
            return answer
        answer.told_s.append(told_s)
        await asyncio.sleep(told_s)


async def _ask(port: int, number: int) -> tuple[int, float | None]:
    """The status of a whole answer, and the time that a refused client was told; 1 for one that did not end whole."""
    message = {"role": "user", "content": f"{number} " + "x" * _TEXT_BYTES}
    body = {"model": MODEL, "max_tokens": 1000, "messages": [message], "stream": number % 2 == 0}
    path = "/v1/chat/completions" if number % 2 == 0 else "/v1/messages"
    data = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(data)}\r\nConnection: close\r\n\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(head.encode() + data)
    received = await reader.read(-1)
    writer.close()
    heads, _, rest = received.partition(b"\r\n\r\n")
    status, told = int(heads.split()[1]), b"retry-after-ms: "
    if status == 200 and number % 2 == 0 and b"[DONE]" not in rest:
        return 1, None
    return status, int(heads.partition(told)[2].split()[0]) / 1000 if told in heads else None


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gateway.ramp")
    parser.add_argument("--seconds", type=float, default=30.0, help="how long the rate rises (default: 30)")
    seconds = parser.parse_args().seconds
    print(f"{machine()}\n\n{table(ramp(seconds))}")


if __name__ == "__main__":
    main()
