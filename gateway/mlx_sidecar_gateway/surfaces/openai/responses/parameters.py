"""The lists of ``responses``: members of a request, of its input items and of its tools, each honoured or not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ...parameters import Harmless, Parameters
from ..common import HARMLESS, SAME_NAME

_CACHED = "prompts are found in the cache by their text"

RESPONSES: Final = Parameters(
    honoured=frozenset(SAME_NAME)
    | {
        "chat_template_kwargs",
        "include",
        "input",
        "instructions",
        "max_output_tokens",
        "metadata",
        "model",
        "parallel_tool_calls",
        "previous_response_id",
        "reasoning",
        "reasoning.effort",
        "reasoning.generate_summary",
        "reasoning.summary",
        "reasoning_budget",
        "stop",
        "store",
        "stream",
        "stream_options",
        "text",
        "text.format",
        "tool_choice",
        "tool_format",
        "tools",
        "top_logprobs",
        "truncation",
    },
    harmless={
        **HARMLESS,
        "background": Harmless("an answer is made while its client waits", only=(False,)),
        "client_metadata": Harmless("it names the client"),
        "image": Harmless("there are no pictures"),
        "max_tool_calls": Harmless("it counts calls of tools that OpenAI runs"),
        "prompt_cache_key": Harmless(_CACHED),
        "prompt_cache_options": Harmless(_CACHED),
        "prompt_cache_retention": Harmless("the cache keeps what was used last"),
        "reasoning.context": Harmless("the chat template decides what the model sees of earlier reasoning"),
        "reasoning.mode": Harmless("there is one mode", only=("standard",)),
        "safety_identifier": Harmless("it names the user to OpenAI"),
        "service_tier": Harmless("there is one tier; ``x-mlx-sidecar-priority`` chooses who goes first"),
        "text.verbosity": Harmless("it is a wish to OpenAI's own models"),
    },
    refused={
        "access_programs": "there are no programs of access here",
        "background_options": "an answer is made while its client waits",
        "context_management": "nothing is compacted here; truncation: auto leaves the oldest turns out",
        "conversation": "conversations have no names here; previous_response_id continues one",
        "moderation": "nothing is moderated here",
        "prompt": "no prompts are kept here",
    },
)

INPUT_TOKENS: Final = Parameters(
    honoured=frozenset(
        {
            "chat_template_kwargs",
            "input",
            "instructions",
            "model",
            "parallel_tool_calls",
            "reasoning",
            "reasoning.effort",
            "reasoning.generate_summary",
            "reasoning.summary",
            "text",
            "text.format",
            "tool_choice",
            "tools",
        }
    ),
    harmless={
        **{name: RESPONSES.harmless[name] for name in ("reasoning.context", "reasoning.mode", "text.verbosity")},
        "truncation": Harmless("the whole prompt is counted"),
    },
    refused={
        "conversation": RESPONSES.refused["conversation"],
        "personality": "instructions tell the model who it is",
        "previous_response_id": "a continued response tells its own tokens, in usage",
    },
)

INCLUDED: Final = frozenset({"message.output_text.logprobs", "reasoning.encrypted_content"})

NEVER_THERE: Final = frozenset(
    {
        "code_interpreter_call.outputs",
        "computer_call_output.output.image_url",
        "file_search_call.results",
        "message.input_image.image_url",
        "web_search_call.action.sources",
        "web_search_call.results",
    }
)
"""Values of ``include`` that concern items which no response has here."""

FORM: Final = Parameters(frozenset({"type", "name", "description", "schema", "strict"}))
"""The members of ``text.format``."""

# Input items.

_OF_ANSWERS: Final = frozenset({"id", "status"})  # members of earlier answers, sent back as they came

ITEMS: Final[Mapping[str, Parameters]] = {
    "message": Parameters(_OF_ANSWERS | {"type", "role", "content", "phase"}),
    "function_call": Parameters(
        _OF_ANSWERS | {"type", "call_id", "name", "arguments", "caller"},
        refused={"namespace": "tools have no namespaces here", "async": "calls are answered in turn here"},
    ),
    "function_call_output": Parameters(
        _OF_ANSWERS | {"type", "call_id", "output", "name", "caller"},
        refused={"namespace": "tools have no namespaces here"},
    ),
    "reasoning": Parameters(_OF_ANSWERS | {"type", "summary", "content", "encrypted_content"}),
    "item_reference": Parameters(frozenset({"type", "id"})),
}

_BY_OPENAI = "it comes from a tool that OpenAI runs, and there is none here"
_BY_OTHERS = "it comes from a tool that is not offered to the model here"
_COMPACTED = "nothing is compacted here"

REFUSED_ITEMS: Final[Mapping[str, str]] = {
    "additional_tools": "tools stand in tools alone",
    "apply_patch_call": _BY_OTHERS,
    "apply_patch_call_output": _BY_OTHERS,
    "code_interpreter_call": _BY_OPENAI,
    "compaction": _COMPACTED,
    "compaction_trigger": _COMPACTED,
    "computer_call": _BY_OTHERS,
    "computer_call_output": _BY_OTHERS,
    "configuration_update": "a request's configuration stands beside its input",
    "custom_tool_call": _BY_OTHERS,
    "custom_tool_call_output": _BY_OTHERS,
    "file_search_call": _BY_OPENAI,
    "image_generation_call": _BY_OPENAI,
    "local_shell_call": _BY_OTHERS,
    "local_shell_call_output": _BY_OTHERS,
    "mcp_approval_request": _BY_OPENAI,
    "mcp_approval_response": _BY_OPENAI,
    "mcp_call": _BY_OPENAI,
    "mcp_list_tools": _BY_OPENAI,
    "program": _BY_OPENAI,
    "program_output": _BY_OPENAI,
    "shell_call": _BY_OTHERS,
    "shell_call_output": _BY_OTHERS,
    "tool_search_call": _BY_OTHERS,
    "tool_search_output": _BY_OTHERS,
    "web_search_call": _BY_OPENAI,
}

PARTS: Final[Mapping[str, Parameters]] = {
    "input_text": Parameters(frozenset({"type", "text", "prompt_cache_breakpoint"})),
    "output_text": Parameters(frozenset({"type", "text", "annotations", "logprobs"})),
    "refusal": Parameters(frozenset({"type", "refusal"})),
    "reasoning_text": Parameters(frozenset({"type", "text"})),
    "summary_text": Parameters(frozenset({"type", "text"})),
}

REFUSED_PARTS: Final[Mapping[str, str]] = {
    "input_audio": "audio is not taken",
    "input_file": "files are not taken",
    "input_image": "pictures are not taken",
}

# Tools.

FUNCTION: Final = Parameters(
    frozenset(
        {
            "allowed_callers",
            "async",
            "defer_loading",
            "description",
            "name",
            "output_schema",
            "parameters",
            "strict",
            "type",
        }
    )
)

LEFT_ASIDE: Final = frozenset(
    {
        "custom",
        "image_generation",
        "local_shell",
        "namespace",
        "tool_search",
        "web_search",
        "web_search_2025_08_26",
        "web_search_preview",
        "web_search_preview_2025_03_11",
    }
)
"""Types of tools that agents offer beside their functions, and do without: the model is not told of these."""

REFUSED_TOOLS: Final[Mapping[str, str]] = {
    "apply_patch": "offer it as a function",
    "code_interpreter": "no code is run here",
    "computer": "offer it as functions",
    "computer_use_preview": "offer it as functions",
    "file_search": "nothing is searched here",
    "mcp": "no servers are asked here; offer their tools as functions",
    "programmatic_tool_calling": "only the model itself calls tools here",
    "shell": "offer it as a function",
}

TOOL_CHOICES: Final[Mapping[str, Parameters]] = {
    "function": Parameters(frozenset({"type", "name"})),
    "allowed_tools": Parameters(frozenset({"type", "mode", "tools"})),
}
