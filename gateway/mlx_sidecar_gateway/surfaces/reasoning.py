"""Whether a model reasons, which some requests depend on."""

from __future__ import annotations

from typing import Any

from .surface import Backend


async def can_reason(backend: Backend, model: str, **load: Any) -> bool:
    """Whether reasoning can be told apart in the model's answers. It is loaded for this, with ``load`` as options."""
    # Not ``Sidecar.load``, which would have a model that is loaded already come back in another way than before.
    card = await backend.sidecar.request("load", {"model": model, **load})
    return bool(card.get("reasoning"))


async def without_reasoning(backend: Backend, model: str) -> dict[str, Any]:
    """The options of a request that wants no reasoning: where the model reasons all the same, it ends at once."""
    if backend.engine == "upstream":  # which is told so by ``template_args``
        return {}
    return {"reasoning_budget": 0} if await can_reason(backend, model) else {}
