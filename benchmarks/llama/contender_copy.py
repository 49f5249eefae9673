"""A copy of the keys and values of a prompt in memory: ``python -m benchmarks.llama.contender_copy OPTIONS``."""

from __future__ import annotations

import json
import sys
import time

import numpy as np

from .work import Times, Work, serve


class Copy:
    """Copies ``token_bytes`` for each token of a prompt, between buffers that have been touched."""

    def __init__(self, token_bytes: int) -> None:
        self._token_bytes = token_bytes
        self._source = self._target = np.zeros(0, np.uint8)

    @property
    def size_bytes(self) -> int:
        """Bytes of the last copy."""
        return self._target.size

    def measure(self, work: Work, number: int) -> Times:
        """Count the copy as the prefill. ``number`` makes no difference."""
        size_bytes = work.rows * work.prompt * self._token_bytes
        if self._source.size != size_bytes:
            self._source, self._target = np.ones(size_bytes, np.uint8), np.ones(size_bytes, np.uint8)
        began = time.perf_counter()
        np.copyto(self._target, self._source)
        return Times(time.perf_counter() - began, None)


if __name__ == "__main__":
    options = json.loads(sys.argv[1])
    serve(Copy(**options), options)
