"""Answers to the questions of Ollama's clients about models: ``tags``, ``show`` and ``ps``."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

import orjson

from mlx_sidecar_client.protocol.local import LocalModel
from mlx_sidecar_client.protocol.operations import ModelCard

from ..faults import Refused
from ..surface import Backend, Offer, Question

_CHAT: Final = [{"role": "user", "content": "Hello"}]
_TOOL: Final = {
    "type": "function",
    "function": {"name": "f", "description": "d", "parameters": {"type": "object", "properties": {}}},
}


async def tags(backend: Backend, _: Question) -> bytes:
    """The models that clients may name."""
    there = {model.name: model for model in (await backend.sidecar.local_list()).models}
    return orjson.dumps({"models": [_tag(offer, there.get(offer.model)) for offer in await backend.offers()]})


async def ps(backend: Backend, _: Question) -> bytes:
    """Those of them that are in memory."""
    names = {offer.model: offer.name for offer in await backend.offers()}
    cards = [(card, names.get(card.model, card.model)) for card in (await backend.sidecar.models()).models]
    return orjson.dumps({"models": [_running(card, name) for card, name in cards if backend.may_name(name)]})


async def show(backend: Backend, question: Question) -> bytes:
    """The facts about one model. Its weights are not loaded for this."""
    name = question.body.get("model") or question.body.get("name")
    if not isinstance(name, str):
        raise Refused.parameter("model", "is needed")
    model = await backend.resolve(name)
    card = next((card for card in (await backend.sidecar.models()).models if card.model == model), None)
    about = card or await _local(backend, model)
    capabilities = await _capabilities(backend, model, card)
    return orjson.dumps(
        {
            "modelfile": f"FROM {name}",
            "parameters": "",
            "template": "",
            "details": _details(about),
            "model_info": _info(about),
            "capabilities": capabilities,
        }
    )


async def _local(backend: Backend, model: str) -> LocalModel:
    return (await backend.sidecar.local_list(model)).models[0]


async def _capabilities(backend: Backend, model: str, card: ModelCard | None) -> list[str]:
    """The capabilities by which clients decide what they send; of a model that is not loaded, by its template."""
    if card is not None and card.state == "ready":
        tools, thinks = card.tool_format is not None, bool(card.reasoning)
    else:
        rendered = await backend.sidecar.render(model, _CHAT, tools=[_TOOL])
        tools = all(warning.kind != "tools_left_out" for warning in rendered.warnings or ())
        thinks = await _has_switch(backend, model)
    told = {"completion": True, "tools": tools, "thinking": thinks}
    return [name for name, has in told.items() if has]


async def _has_switch(backend: Backend, model: str) -> bool:
    """Whether reasoning can be switched on and off in the model's template."""
    switched = [
        (await backend.sidecar.render(model, _CHAT, template_args={"enable_thinking": on})).text for on in (True, False)
    ]
    return switched[0] != switched[1]


def _tag(offer: Offer, there: LocalModel | None) -> dict[str, Any]:
    tag: dict[str, Any] = {"name": offer.name, "model": offer.name, "digest": "", "size": 0, "details": _details(there)}
    if there is not None:
        tag |= {"size": there.size_bytes, "digest": there.revision or ""}
    if offer.created:
        tag["modified_at"] = _time(offer.created)
    return tag


def _running(card: ModelCard, name: str) -> dict[str, Any]:
    size = card.memory_bytes or 0
    running = {"name": name, "model": name, "digest": "", "size": size, "size_vram": size, "details": _details(card)}
    return {**running, "context_length": card.context_length or 0}


def _details(about: LocalModel | ModelCard | None) -> dict[str, Any]:
    """Architecture, size and number format, as far as they are known."""
    family = (about.architecture if about else None) or ""
    return {
        "parent_model": "",
        "format": "safetensors",
        "family": family,
        "families": [family] if family else [],
        "parameter_size": _in_short(about.parameters if about else None),
        "quantization_level": (about and (about.quantization or about.dtype)) or "",
    }


def _info(about: LocalModel | ModelCard) -> Mapping[str, Any]:
    """The members of ``model_info`` that clients read."""
    architecture = about.architecture or "unknown"
    info = {
        "general.architecture": architecture,
        "general.parameter_count": about.parameters,
        f"{architecture}.context_length": about.context_length,
    }
    return {name: value for name, value in info.items() if value}


def _in_short(parameters: int | None) -> str:
    """A count of parameters as Ollama writes it, e.g. ``134.5M``."""
    for unit, size in (("B", 10**9), ("M", 10**6), ("K", 10**3)):
        if parameters is not None and parameters >= size:
            return f"{parameters / size:.1f}{unit}"
    return str(parameters or "")


def _time(unix_s: float) -> str:
    return datetime.fromtimestamp(unix_s, UTC).isoformat().replace("+00:00", "Z")
