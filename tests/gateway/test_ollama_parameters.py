"""Every member that Ollama's client can send is in one of our lists."""

from __future__ import annotations

import pytest
from ollama._types import ChatRequest, GenerateRequest, Message, Options, ShowRequest, Tool
from pydantic import BaseModel

from mlx_sidecar_gateway.surfaces.ollama import parameters
from mlx_sidecar_gateway.surfaces.parameters import Parameters


@pytest.mark.parametrize(
    ("request_type", "listed", "prefix"),
    [
        (ChatRequest, parameters.CHAT, ""),
        (GenerateRequest, parameters.GENERATE, ""),
        (ShowRequest, parameters.SHOW, ""),
        (Options, parameters.CHAT, "options."),
        (Options, parameters.GENERATE, "options."),
        (Message, parameters.MESSAGE, ""),
        (Message.ToolCall, parameters.CALL, ""),
        (Message.ToolCall.Function, parameters.CALL, "function."),
        (Tool, parameters.TOOL, ""),
        (Tool.Function, parameters.TOOL, "function."),
    ],
)
def test_every_member_is_listed(request_type: type[BaseModel], listed: Parameters, prefix: str) -> None:
    assert not {prefix + name for name in request_type.model_fields} - listed.listed
