"""mlx-lm in a process that measures it: ``python -m benchmarks.llama.contender_mlx_lm OPTIONS``."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from .contender_ours import CHUNK
from .work import InProcess, Work, serve


class MlxLm:
    """A model and its own caches. Rows of one length are one batch, which is the best that it can do."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._caches: list[Any] = []

    def begin(self, rows: int, room: int) -> None:
        from mlx_lm.models.cache import make_prompt_cache

        self._caches = make_prompt_cache(self._model)

    def prefill(self, prompts: Sequence[list[int]]) -> list[int]:
        found: list[int] = []
        for start in range(0, len(prompts[0]), CHUNK):
            found = self._run([prompt[start : start + CHUNK] for prompt in prompts])
        return found

    def step(self, tokens: list[int]) -> list[int]:
        return self._run([[token] for token in tokens])

    def _run(self, tokens: list[list[int]]) -> list[int]:
        import mlx.core as mx

        likeliest = mx.argmax(self._model(mx.array(tokens), cache=self._caches)[:, -1], axis=-1)
        return cast("list[int]", likeliest.tolist())


def main(model: str, dtype: str | None, shim: bool) -> None:
    """``dtype``: what weights are cast to, unpacked if they are quantised; None: as they are stored."""
    name = "as installed"
    if shim:
        from mlx_sidecar.engine.execution.blas import preload

        policy = preload("fast")
        if not policy.active:
            sys.exit(f"the BLAS shim is not in force: {policy.reason}")
        name = policy.name
    import mlx.core as mx
    from mlx.utils import tree_map
    from mlx_lm.utils import dequantize_model, load_model

    loaded, config = load_model(Path(model))
    if dtype is not None:
        to = getattr(mx, dtype)
        loaded = dequantize_model(loaded) if "quantization" in config else loaded
        loaded.update(
            tree_map(lambda a: a.astype(to) if mx.issubdtype(a.dtype, mx.floating) else a, loaded.parameters())
        )
    mx.eval(loaded.parameters())
    engine = MlxLm(loaded)
    InProcess(engine).measure(Work(2, 1), 0)  # no more, because half precision takes seconds a token
    serve(InProcess(engine), {"blas": name, "dtype": dtype or "as stored"})


if __name__ == "__main__":
    main(**json.loads(sys.argv[1]))
