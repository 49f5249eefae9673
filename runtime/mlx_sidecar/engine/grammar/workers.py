"""Threads that build tokenizers and compile grammars beside the step loop."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from queue import SimpleQueue

from .library_matcher import COMPILER_STACK_BYTES

Job = Callable[[], object]

# A grammar that takes seconds to compile should not hold up the next one, and steps need processors too.
COMPILERS = 2
NICENESS = 10


class Workers:
    """Each job runs once, and what it returns is posted. A job raises nothing. The threads end with the process."""

    def __init__(self, post: Callable[[object], None]) -> None:
        self._post = post
        self._jobs: SimpleQueue[Job] = SimpleQueue()
        self._started = False

    def compile(self, job: Job) -> None:
        """Run ``job`` on one of a few threads, which have the stack that compiling needs."""
        if not self._started:
            self._started = True
            _with_stack(COMPILER_STACK_BYTES, [self._compiler(number) for number in range(COMPILERS)])
        self._jobs.put(job)

    def build(self, job: Job) -> None:
        """Run ``job`` on a thread of its own."""
        threading.Thread(target=self._run, args=(job,), name="grammar tokenizer", daemon=True).start()

    def _compiler(self, number: int) -> threading.Thread:
        return threading.Thread(target=self._compile_on, name=f"grammar compiler {number}", daemon=True)

    def _compile_on(self) -> None:
        while True:
            self._run(self._jobs.get())

    def _run(self, job: Job) -> None:
        _give_way()
        self._post(job())


def _give_way() -> None:
    """Let the step loop have the processor first where there are too few; on Linux, where a thread can be told so."""
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)


def _with_stack(nbytes: int, threads: list[threading.Thread]) -> None:
    # The size is one for all threads that this process starts. Such memory is not taken before it is touched.
    before = threading.stack_size(nbytes)
    try:
        for thread in threads:
            thread.start()
    finally:
        threading.stack_size(before)
