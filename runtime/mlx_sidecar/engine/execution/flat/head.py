"""The output projection, computed only for tokens that sample."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import mlx.core as mx
import mlx.nn as nn

from ..interfaces import Cache, Model
from ..mlxlm import AttendingKeys


class Head:
    """Makes the modules of ``model`` that project to the vocabulary do so for part of their input, where that is asked.

    They are ``lm_head`` and, for models whose embedding serves as output, any module with ``as_linear``. Their class is
    replaced by one derived from it, so that everything else about them stays as it is.
    """

    def __init__(self, model: Model) -> None:
        self._pick: Callable[[mx.array], mx.array] | None = None
        self._picked = False
        self._states: mx.array | None = None
        self._model = model
        self._modules: list[tuple[nn.Module, type]] = []
        for path, module in model.named_modules():
            if hasattr(module, "as_linear"):
                self._narrow(module, "as_linear")
            elif path.rpartition(".")[2] == "lm_head":
                self._narrow(module, "__call__")

    def _narrow(self, module: nn.Module, method: str) -> None:
        kind = type(module)
        whole: Callable[[nn.Module, mx.array], mx.array] = getattr(kind, method)

        def narrowed(this: nn.Module, x: mx.array) -> mx.array:
            if self._pick is None:
                return whole(this, x)
            self._picked, self._states = True, x
            return whole(this, self._pick(x))

        self._modules.append((module, kind))
        module.__class__ = type(kind.__name__, (kind,), {method: narrowed})

    def run(
        self, pick: Callable[[mx.array], mx.array], tokens: mx.array, caches: Sequence[Cache | AttendingKeys]
    ) -> mx.array:
        """Return the logits of ``tokens`` that ``pick`` leaves.

        ``pick`` is applied to the input of the output projection; to the logits where no projection was found.
        """
        logits, _ = self._passed(pick, tokens, caches)
        return logits if self._picked else pick(logits)

    def run_with_states(
        self, pick: Callable[[mx.array], mx.array], tokens: mx.array, caches: Sequence[Cache | AttendingKeys]
    ) -> tuple[mx.array, mx.array]:
        """Return the logits of ``tokens`` that ``pick`` leaves, and the input of the projection: that of all tokens.

        Raises ``NotImplementedError`` where no projection was found.
        """
        logits, states = self._passed(pick, tokens, caches)
        if states is None:
            raise NotImplementedError("the model's output projection was not found")
        return logits, states

    def _passed(
        self, pick: Callable[[mx.array], mx.array], tokens: mx.array, caches: Sequence[Cache | AttendingKeys]
    ) -> tuple[mx.array, mx.array | None]:
        self._pick, self._picked, self._states = pick, False, None
        try:
            logits = self._model(tokens, cache=caches)
            return logits, self._states
        finally:
            self._pick = self._states = None

    def restore(self) -> None:
        """Leave the model as it was."""
        for module, kind in self._modules:
            module.__class__ = kind
        self._modules.clear()
