"""Prices of steps for tests of speculation."""

from __future__ import annotations

from mlx_sidecar.engine.speculation.price import StepPrices


class Free(StepPrices):
    """Prices by which every proposal pays."""

    @property
    def token_s(self) -> float:
        return 0.0

    def of(self, tokens: int) -> float:
        return 1.0
