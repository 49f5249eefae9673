"""``models``: what clients may name."""

from __future__ import annotations

from typing import Any

import orjson

from ..faults import Fault, Refused
from ..surface import Backend, Offer, Question


async def listed(backend: Backend, _: Question) -> bytes:
    """All models."""
    offers = await backend.offers()
    return orjson.dumps({"object": "list", "data": [_model(offer) for offer in offers]})


async def one(backend: Backend, question: Question) -> bytes:
    """The model of the path. Raises ``Refused``."""
    name = question.path["model"]
    for offer in await backend.offers():
        if offer.name == name:
            return orjson.dumps(_model(offer))
    raise Refused(Fault(404, "model_not_found", f"no model {name!r} here", param="model"))


def _model(offer: Offer) -> dict[str, Any]:
    return {"id": offer.name, "object": "model", "created": offer.created, "owned_by": "mlx-sidecar"}
