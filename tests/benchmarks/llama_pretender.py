"""A contender whose times are arithmetic: a row's decode step takes 1/``speed`` s, a prompt a tenth of that a token."""

from __future__ import annotations

import json
import sys
import time

from benchmarks.llama.work import Times, Work, serve


class Pretender:
    def __init__(self, speed: float, sleep: float) -> None:
        self._speed = speed
        self._sleep = sleep

    def measure(self, work: Work, number: int) -> Times:
        time.sleep(self._sleep)
        return Times(work.prompt / (10 * self._speed), work.steps / self._speed)


def main(speed: float = 1.0, sleep: float = 0.0, status: int = 0) -> None:
    if status:
        print("this one does not start", file=sys.stderr)
        sys.exit(status)
    serve(Pretender(speed, sleep), {"speed": speed})


if __name__ == "__main__":
    main(**json.loads(sys.argv[1]))
