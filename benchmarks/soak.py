"""Random load for a while, every promise checked: answers, deltas, and memory that stays where it is.

Requests differ in model, size, sampling, priority, deadline and window; some are streamed, some are cancelled. Ends
with status 1 if a promise was broken.

    python -m benchmarks.soak --minutes 20
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from .faults.host import is_engine
from .measure import Row, machine, table
from .promises import Frame, Promises
from .serving.models import Prompts, make
from .serving.request import ContenderFailed
from .serving.sidecar import Connection

CLIENTS = 24
_SAMPLES = 240  # of the processes' sizes
_PATIENCE_S = 120.0  # for the last answers
_SHOWN = 50  # broken promises
# A last quarter this much larger than the second one is growth.
_SHARE, _SLACK_BYTES = 1.05, 8 * 2**20


class Soak:
    """One sidecar, its clients, and observations of both."""

    def __init__(self, model: Path, seed: int) -> None:
        self.promises = Promises()
        self.sizes: dict[str, list[int]] = {"front": [], "engine": []}
        self.kept_bytes = 0  # the most that was seen
        self._model = str(model)
        self._source = random.Random(seed)
        self._prompts = Prompts(seed)
        self._events: dict[int, asyncio.Event] = {}
        self._connection = Connection(self._hear, self._lost)
        self._honoured: set[str] = set()
        self._gone = False

    async def run(self, duration_s: float) -> Frame:
        """Run the load; return the ``stats`` after it."""
        answer = await self._connection.open()
        self._honoured = set(answer["capabilities"]["generate_parameters"])
        for model in (self._model, "pocket"):
            await self._connection.call("load", {"model": model})
        until_s = time.monotonic() + duration_s
        watch = asyncio.create_task(self._watch(duration_s / _SAMPLES))
        clients = [asyncio.create_task(self._client(until_s)) for _ in range(CLIENTS)]
        await asyncio.wait(clients, timeout=duration_s + _PATIENCE_S)
        watch.cancel()
        self.promises.broken += [f"{id_}: no answer" for id_ in self.promises.unanswered]
        stats = await self._connection.call("stats", {})
        await self._connection.close()
        return stats

    async def _client(self, until_s: float) -> None:
        while time.monotonic() < until_s and not self._gone:
            params = self._request()
            id_ = self._connection.send("generate", params)
            self.promises.asked(id_, params)
            answered = self._events[id_] = asyncio.Event()
            if self._source.random() < 0.15:
                asyncio.get_running_loop().call_later(self._source.uniform(0, 1.5), self._cancel, id_, params)
            await answered.wait()
            if self._source.random() < 0.2:
                await asyncio.sleep(self._source.expovariate(2))

    def _cancel(self, id_: int, params: Frame) -> None:
        """Cancel in one of the two ways, even where the answer is there already."""
        self.promises.cancelled(id_)
        if "stream" in params and self._source.random() < 0.5:
            if id_ in self._events:  # an ended stream may be unknown, and that has an answer of its own
                self._connection.notify("stream/cancel", {"stream": params["stream"]})
        else:
            self._connection.notify("$/cancelRequest", {"id": id_})

    def _request(self) -> Frame:
        pick = self._source
        pocket = pick.random() < 0.2
        [length] = pick.choices([pick.randint(1, 64), pick.randint(200, 800), 3000], [0.7, 0.26, 0.04])
        params: Frame = {"model": "pocket" if pocket else self._model}
        prompt = self._prompts.request(length, 1)
        params |= {"prompt": prompt.text} if pocket else {"tokens": prompt.tokens}
        params["max_tokens"] = pick.choice([1, pick.randint(2, 80), pick.randint(2, 80), 300])
        params |= self._sampling() | self._handling()
        return params

    def _sampling(self) -> Frame:
        pick = self._source
        ways: list[Frame] = [
            {},
            {"temperature": pick.uniform(0.1, 2), "seed": pick.randrange(2**40)},
            {"temperature": 0.8, "top_p": pick.uniform(0.1, 1), "top_k": pick.randint(1, 200)},
            {"temperature": 1.0, "min_p": pick.uniform(0, 0.5), "stop": [" the", "x1"]},
            {"repetition_penalty": 1.2, "frequency_penalty": 0.5, "presence_penalty": 0.2},
            {"logit_bias": {str(pick.randrange(2000)): pick.uniform(-100, 20)}, "ignore_eos": True},
            {"temperature": 1.0, "logprobs": pick.randint(0, 5)},
        ]
        return self._known(pick.choice(ways))

    def _handling(self) -> Frame:
        pick = self._source
        handling: Frame = {"priority": pick.choice(["critical", "high", "normal", "normal", "low"])}
        if pick.random() < 0.1:
            handling["deadline_s"] = pick.uniform(0.05, 3)
        if pick.random() < 0.75:
            handling["stream"] = pick.randrange(10**12)
            if pick.random() < 0.15:
                handling["window"] = pick.randint(1, 8)
            if pick.random() < 0.1:
                handling["min_interval_ms"] = pick.randint(1, 200)
        return self._known(handling)

    def _known(self, params: Frame) -> Frame:
        """Return those of ``params`` that this version honours."""
        return {name: value for name, value in params.items() if name in self._honoured}

    def _hear(self, frame: Frame, _: float) -> None:
        if "method" not in frame:
            self.promises.answered(frame)
            if (answered := self._events.pop(frame["id"], None)) is not None:
                answered.set()
        elif frame["method"] == "stream/delta":
            self.promises.delta(frame["params"])
            self._acknowledge(frame["params"])
        elif frame["method"] == "stream/interrupted":
            self.promises.broken.append(f"the engine was lost: {frame['params']}")

    def _acknowledge(self, delta: Frame) -> None:
        if "window" in self._honoured:  # of streams without one it says nothing
            told = {"stream": delta["stream"], "seq": delta["seq"]}
            asyncio.get_running_loop().call_later(
                self._source.uniform(0, 0.02), self._connection.notify, "stream/ack", told
            )

    def _lost(self, why: str) -> None:
        self._gone = True
        self.promises.broken.append(why)
        for answered in self._events.values():
            answered.set()

    async def _watch(self, interval_s: float) -> None:
        front = psutil.Process(self._connection.pid)
        [engine] = filter(is_engine, front.children())
        while True:
            self.sizes["front"].append(front.memory_info().rss)
            # Cache kept for cancelled prefills grows up to its bound, and is reported separately.
            kept = (await self._connection.call("stats", {}))["gauges"].get("kept_bytes", 0)
            self.kept_bytes = max(self.kept_bytes, int(kept))
            self.sizes["engine"].append(engine.memory_info().rss - int(kept))
            await asyncio.sleep(interval_s)


def grown(sizes: list[int]) -> tuple[float, float, bool]:
    """Return the medians of the second and the last quarter in bytes, and whether the last is notably larger."""
    quarter = len(sizes) // 4
    second, last = statistics.median(sizes[quarter : 2 * quarter]), statistics.median(sizes[-quarter:])
    return second, last, last > second * _SHARE + _SLACK_BYTES


def left_behind(stats: Frame) -> dict[str, Any]:
    """Return the work that ``stats`` still counts; empty when everything is gone."""
    left = {"waiting": stats["queue"]["waiting"], "running": stats["queue"]["running"]}
    left |= {name: stats["gauges"][name] for name in ("streams", "reserved_bytes")}
    return {name: value for name, value in left.items() if value}


def _rows(soak: Soak, stats: Frame, minutes: float) -> list[Row]:
    promises = soak.promises
    endings = ", ".join(f"{reason} {count:,}" for reason, count in promises.endings.most_common())
    rows = [
        Row(f"answers in {minutes:g} minutes of {CLIENTS} clients", endings),
        Row("tokens generated", f"{promises.tokens:,}"),
        Row("promises broken", f"{len(promises.broken)}", "0"),
        Row("left behind when the load is over", str(left_behind(stats) or "nothing"), "nothing"),
        Row("kept of cancelled prefills, at most", f"{soak.kept_bytes / 2**20:.0f} MiB"),
    ]
    for name, sizes in soak.sizes.items():
        second, last, more = grown(sizes)
        figure = f"{second / 2**20:.0f} MiB in the second quarter, {last / 2**20:.0f} MiB in the last"
        less = ", less what is kept" if name == "engine" else ""
        rows.append(Row(f"resident size of the {name}{less}", figure + (": grown" if more else ""), "flat"))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        soak = Soak(make("1M", Path(folder)), args.seed)
        try:
            stats = asyncio.run(soak.run(60 * args.minutes))
        except ContenderFailed as error:
            sys.exit("\n".join([str(error), *soak.promises.broken[:_SHOWN]]))
    print(f"{machine()}\n\n{table(_rows(soak, stats, args.minutes))}")
    for broken in soak.promises.broken[:_SHOWN]:
        print(broken[:400])
    growth = any(grown(sizes)[2] for sizes in soak.sizes.values())
    sys.exit(1 if soak.promises.broken or left_behind(stats) or growth else 0)


if __name__ == "__main__":
    main()
