"""The tests of llama.cpp's suite that say nothing of the gateway, each with its reason."""

from __future__ import annotations

_SLOW = "it is slow, and wants a model of gigabytes"
_WORDS = "it asks for words, token counts or a build number of llama.cpp's own test model"
_NATIVE = "/completion and /completions in llama.cpp's own shape; OpenAI's has /v1"
_ROUTE = "a route of llama.cpp's own"
_MEMBER = "a parameter of llama.cpp's own"
_TEMPLATE = "it asks for what a chat template of llama.cpp's repository writes, by a route of its own"
_ERROR = "an error's type of llama.cpp's own, where OpenAI has a code"
_PREFILL = "llama.cpp goes on with a last message of the assistant, and so refuses two; OpenAI's interface does not"
_EMPTY = "it wants an answer to no message, which Anthropic refuses"
_VISION = "pictures are not taken"
_INPUT = "an input of llama.cpp's own: texts and tokens mixed within a list, objects, `content`"
_POOLING = "pooling is the checkpoint's own, and there is none without"
_UI = "there is no web interface, and nothing of one: pages, a proxy, tools that the server runs"
_ORIGINS = "pages that may ask are named one by one by --allow-origin, and a preflight is answered 204"
_MACHINE = "it sets or reads how llama.cpp computes: slots, caches, adapters, drafts, context shifts"

# The beginning of a test's name, and the reason. The first that fits counts.
_LEFT_OUT: tuple[tuple[str, str], ...] = (
    ("test_basic.py::test_server_multiple_addresses", "a gateway listens on one address"),
    ("test_basic.py::test_server_props", _ROUTE),
    ("test_basic.py::test_server_models", "here a model has all the names that other tests give it"),
    ("test_basic.py::test_server_slots", _ROUTE),
    ("test_basic.py::test_load_split_model", _NATIVE),
    ("test_basic.py::test_no_ui", _UI),
    ("test_basic.py::test_server_model_aliases_and_tags", _MACHINE),
    ("test_chat_completion.py::test_chat_completion[", _WORDS),
    ("test_chat_completion.py::test_chat_completion_cached_tokens", _WORDS),
    ("test_chat_completion.py::test_chat_completion_stream[", _WORDS),
    ("test_chat_completion.py::test_chat_completion_with_openai_library", _WORDS),
    ("test_chat_completion.py::test_chat_template", _TEMPLATE),
    ("test_chat_completion.py::test_apply_chat_template", _TEMPLATE),
    ("test_chat_completion.py::test_completion_with_response_format[response_format1-10-[ -3000 ]]", _WORDS),
    ("test_chat_completion.py::test_completion_with_json_schema", _MEMBER),
    ("test_chat_completion.py::test_completion_with_grammar", _MEMBER),
    ("test_chat_completion.py::test_completion_with_invalid_grammar", _MEMBER),
    ("test_chat_completion.py::test_invalid_chat_completion_req[messages7]", _PREFILL),
    ("test_chat_completion.py::test_chat_completion_with_timings_per_token", _MEMBER),
    ("test_chat_completion.py::test_context_size_exceeded", _ERROR),
    ("test_chat_completion.py::test_return_progress", _MEMBER),
    ("test_chat_completion.py::test_chat_completions_multiple_choices", _MEMBER),
    ("test_chat_completion.py::test_chat_completions_token_count", _ROUTE),
    ("test_chat_completion.py::test_verbose_debug", _MEMBER),
    ("test_compat_anthropic.py::test_anthropic_tool_result_with_image", _VISION),
    ("test_compat_anthropic.py::test_anthropic_vision", _VISION),
    ("test_compat_anthropic.py::test_anthropic_empty_messages", _EMPTY),
    ("test_compat_anthropic.py::test_anthropic_thinking_history_in_template", _TEMPLATE),
    ("test_compat_anthropic.py::test_anthropic_thinking_with_reasoning_model", _SLOW),
    ("test_compat_gcp.py", _ROUTE),
    ("test_compat_oai_responses.py::test_responses_stream_with_llama_telemetry", _MEMBER),
    ("test_compat_oai_responses.py", _WORDS),
    ("test_completion.py::test_completion_stream_with_openai_library_stops", _SLOW),
    ("test_completion.py::test_completion_with_openai_library", _WORDS),
    ("test_completion.py::test_completion_stream_with_openai_library", _WORDS),
    ("test_completion.py", _NATIVE),
    ("test_ctx_shift.py", _MACHINE),
    *((f"test_embedding.py::test_embedding_mixed_input[input{case}", _INPUT) for case in (3, 7, 8, 9, 10)),
    ("test_embedding.py::test_embedding_content_text_same_as_string", _INPUT),
    ("test_embedding.py::test_embedding_pooling_none", _POOLING),
    ("test_embedding.py::test_embedding_multiple_with_fa", "its texts are longer than a small encoder takes"),
    ("test_embedding.py::test_embedding_error_prompt_too_long", "it asks for the words of an error"),
    ("test_ignore_eos.py", _NATIVE),
    ("test_infill.py", _ROUTE),
    ("test_kv_keep_only_active.py", _MACHINE),
    ("test_lora.py", _MACHINE),
    ("test_mcp_servers.py", _UI),
    ("test_metrics.py", "metrics under llama.cpp's names"),
    ("test_proxy.py", _UI),
    ("test_rerank.py", "no reranker is among the models that the packages have"),
    ("test_router.py", _MACHINE),
    ("test_security.py::test_access_static_assets", _UI),
    ("test_security.py::test_correct_api_key", _NATIVE),
    ("test_security.py::test_cors_proxy", _UI),
    ("test_security.py::test_cors", _ORIGINS),
    ("test_security.py::test_local_media_file", _VISION),
    ("test_sleep.py", _MACHINE),
    ("test_slot_save.py", _MACHINE),
    ("test_speculative.py", _MACHINE),
    ("test_stream.py", _ROUTE),
    ("test_template.py", _TEMPLATE),
    ("test_tokenize.py::test_tokenize_with_bos", "it wants the first token of llama.cpp's own test model"),
    ("test_tool_call.py::test_completion_without_tool_call_fast", ""),
    ("test_tool_call.py", _SLOW),
    ("test_tools_builtin.py", _UI),
    ("test_vision_api.py", _VISION),
)


def reason_to_leave_out(name: str) -> str | None:
    """Why the test of this name is left out; None if it counts."""
    return next((reason for begin, reason in _LEFT_OUT if name.startswith(begin)), None) or None
