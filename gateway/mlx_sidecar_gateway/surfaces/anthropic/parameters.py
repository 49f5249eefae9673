"""The parameters of Anthropic's Messages, and the members of what stands in their lists."""

from __future__ import annotations

from typing import Final

from ..parameters import Harmless, Parameters

_ELSEWHERE: Final = "it is about the account at Anthropic"

_PROMPT: Final = frozenset(
    {
        "model",
        "messages",
        "system",
        "tools",
        "tool_choice",
        "thinking",
        "cache_control",  # every prompt is cached as far as possible, marked or not
        "output_config",
        "output_config.format",
        "output_format",
    }
)
_HARMLESS: Final = {
    "output_config.effort": Harmless("how much a model reasons is bounded by thinking.budget_tokens here"),
    "speed": Harmless("there is one speed"),
    "service_tier": Harmless("there is one tier"),
    "inference_geo": Harmless("the model runs on this machine"),
    "metadata": Harmless("users are not told apart by it"),
    "diagnostics": Harmless("cache misses are not explained here"),
    "context_management": Harmless("nothing of a conversation is edited on the way"),
    "betas": Harmless("it is a header, anthropic-beta, and what it asks for is there or refused by name"),
    "fallbacks": Harmless("no answer is refused for its content, so that no other model is tried"),
    "fallback_credit_token": Harmless(_ELSEWHERE),
    "billing_policy": Harmless(_ELSEWHERE),
    "user_profile_id": Harmless(_ELSEWHERE),
    "workspace_id": Harmless(_ELSEWHERE),
    "mcp_servers": Harmless("there is no server to be called", only=([],)),
}
_REFUSED: Final = {
    "container": "there are no containers",
    "compaction": "conversations are not compacted here",
    "thread": "conversations are not kept here",
    "output_config.task_budget": "there is no budget over several requests",
}

MESSAGES: Final = Parameters(
    _PROMPT | {"max_tokens", "stream", "stop_sequences", "temperature", "top_p", "top_k"}, _HARMLESS, _REFUSED
)
COUNT_TOKENS: Final = Parameters(_PROMPT, _HARMLESS, _REFUSED)

_BLOCK: Final = {"type", "cache_control"}
_NO_TOOLSET = {"toolset_name": "there are no toolsets"}
_ONLY_DIRECT = {"caller": "only the model itself calls tools here"}

MESSAGE: Final = {
    "user": Parameters(frozenset({"role", "content"})),
    "assistant": Parameters(frozenset({"role", "content"})),
    "system": Parameters(
        frozenset({"role", "content", "clear_at"}), refused={"output_config": "it only goes with the whole request"}
    ),
}

# ``signature`` is not needed, because reasoning is not encrypted; ``caller`` is read for its type.
BLOCKS: Final = {
    "text": Parameters(frozenset({*_BLOCK, "text"}), refused={"citations": "citations are not written here"}),
    "thinking": Parameters(frozenset({"type", "thinking", "signature"})),
    "tool_use": Parameters(frozenset({*_BLOCK, "id", "name", "input", "caller", "caller.type"}), refused=_NO_TOOLSET),
    "tool_reference": Parameters(frozenset({*_BLOCK, "tool_name"})),
    "tool_result": Parameters(frozenset({*_BLOCK, "tool_use_id", "content", "is_error"}), refused=_NO_TOOLSET),
}
"""Members of each type of block; ``is_error`` is handed to the chat template."""

_SERVER_TOOL = "tools of Anthropic's servers are not there"

REFUSED_BLOCKS: Final = {
    "image": "images are not understood yet",
    "document": "documents are not understood yet",
    "search_result": "search results are not understood: send them as text",
    "redacted_thinking": "only Anthropic can read it",
    "container_upload": "there are no containers",
    "compaction": "conversations are not compacted here",
    "tool_addition": "the tools of a request are those in tools",
    "tool_removal": "the tools of a request are those in tools",
    "browser_state": "there is no browser",
    "fallback": "no other model is tried",
    "server_tool_use": _SERVER_TOOL,
    "advisor_tool_result": _SERVER_TOOL,
    "bash_code_execution_tool_result": _SERVER_TOOL,
    "code_execution_tool_result": _SERVER_TOOL,
    "mcp_tool_listing": _SERVER_TOOL,
    "mcp_tool_result": _SERVER_TOOL,
    "mcp_tool_use": _SERVER_TOOL,
    "text_editor_code_execution_tool_result": _SERVER_TOOL,
    "tool_search_tool_result": _SERVER_TOOL,
    "web_fetch_tool_result": _SERVER_TOOL,
    "web_search_tool_result": _SERVER_TOOL,
}
"""Blocks that are known, and the reason why they are refused."""

TOOL: Final = Parameters(
    frozenset(
        {
            "name",
            "description",
            "input_schema",
            "type",
            "strict",
            "cache_control",
            "eager_input_streaming",  # arguments are always streamed as they are written
            "allowed_callers",
            "defer_loading",
        }
    ),
    refused={"input_examples": "examples are not shown to the model: describe them in the description"},
)
TOOL_CHOICE: Final = {
    "auto": Parameters(frozenset({"type", "disable_parallel_tool_use"})),
    "any": Parameters(frozenset({"type", "disable_parallel_tool_use"})),
    "tool": Parameters(frozenset({"type", "name", "disable_parallel_tool_use"})),
    "none": Parameters(frozenset({"type"})),
}
# ``block_binding`` says what becomes of reasoning that fails a check; here none is checked.
THINKING: Final = {
    "enabled": Parameters(frozenset({"type", "budget_tokens", "display", "block_binding"})),
    "disabled": Parameters(frozenset({"type"})),
    "adaptive": Parameters(frozenset({"type", "display", "block_binding"})),
}
REFUSED_THINKING: Final = {"between_tools": "reasoning is not kept to certain places"}
