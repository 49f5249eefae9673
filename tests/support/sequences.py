"""Sequences as the engine would have them of a submission, for tests of its parts."""

from __future__ import annotations

from typing import Any

from mlx_sidecar.engine.core.asked import Asked
from mlx_sidecar.engine.core.memory_cost import SequenceCost
from mlx_sidecar.engine.core.sequence import Sequence
from mlx_sidecar.link.messages import Generate, Sampling


def sequence_of(id_: int, tokens: list[int], limit: int, sampling: Sampling | None = None, **asked: Any) -> Sequence:
    """A sequence of model ``m`` that costs nothing and arrived at 0, unless fields of ``Asked`` say otherwise."""
    sampling = sampling or Sampling()
    goal = Generate(sampling, [], limit)
    usual: dict[str, Any] = {"model": "m", "goal": goal, "cost": SequenceCost(), "arrived_s": 0.0, "stop_tokens": []}
    return Sequence(Asked(id=id_, tokens=tokens, limit=limit, sampling=sampling, **{**usual, **asked}))
