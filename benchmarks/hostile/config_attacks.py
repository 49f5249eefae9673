"""Members of the small configuration files that have done harm, and others of their kind."""

from __future__ import annotations

from typing import Any

from .json_damage import raw

Member = dict[str, Any]

_HUGE = 10**31

CONFIG: list[Member] = [
    {"max_position_embeddings": _HUGE},
    {"max_position_embeddings": True},
    {"max_position_embeddings": 1},
    {"max_position_embeddings": -1},
    {"max_position_embeddings": 10**9 - 1},
    {"vocab_size": True},
    {"vocab_size": 2**31},
    {"vocab_size": 1},
    {"vocab_size": 2049},
    {"num_hidden_layers": 0},
    {"num_hidden_layers": 3},
    {"num_hidden_layers": 300_000},
    {"num_hidden_layers": 10**12},
    {"hidden_size": 2**40},
    {"head_dim": 0},
    {"head_dim": 31},
    {"num_attention_heads": 0},
    {"num_attention_heads": 10**9},
    {"num_key_value_heads": 3},
    {"num_key_value_heads": 0},
    {"intermediate_size": 10**12},
    {"rms_norm_eps": raw("NaN")},
    {"rms_norm_eps": 1e308},
    {"rope_theta": 0},
    {"rope_theta": raw("Infinity")},
    {"rope_scaling": {"type": "linear", "factor": 0}},
    {"rope_scaling": {"rope_type": "llama3", "factor": 8}},
    {"rope_scaling": {"type": "yarn", "factor": 1e308, "original_max_position_embeddings": 0}},
    {"rope_scaling": {"type": "longrope", "short_factor": [1] * 100_000, "long_factor": []}},
    {"sliding_window": 0, "use_sliding_window": True},
    {"layer_types": ["full_attention"] * 300_000},
    {"tie_word_embeddings": False},
    {"quantization": {"group_size": 7, "bits": 3}},
    {"quantization": {"group_size": 64, "bits": 4}},
    {"quantization": {"group_size": True, "bits": 2**40}},
    {"quantization_config": {"quant_method": "bitnet"}},
    {"quantization_config": {"quant_method": "awq", "bits": 4}},
    {"auto_map": {"AutoModel": "evil.Model", "AutoTokenizer": ["evil.Tokenizer", None]}},
    {"model_file": "evil.py"},
    {"model_type": "../../evil"},
    {"model_type": ""},
    {"model_type": ["qwen3"]},
    {"model_type": "llama"},
    {"model_type": "gemma3_text", "sliding_window_pattern": 0},
    {"model_type": "mamba2", "num_heads": 1, "state_size": 10**9, "conv_kernel": 0, "n_groups": 0},
    {"model_type": "qwen3_moe", "num_experts": 10**7, "num_experts_per_tok": 2, "moe_intermediate_size": 1},
    {"model_type": "mixtral", "num_local_experts": 10**7, "num_experts_per_tok": 0},
    {"model_type": "nemotron_h", "hybrid_override_pattern": "M*-" * 100_000},
    {"model_type": "deepseek_v3", "n_routed_experts": 10**7, "kv_lora_rank": 0},
    {"model_type": "recurrent_gemma", "block_types": ["recurrent"] * 300_000},
    {"text_config": {"vocab_size": _HUGE, "max_position_embeddings": True}},
    {"text_config": []},
    {"eos_token_id": True},
    {"eos_token_id": [2**32]},
    {"bos_token_id": -1},
    {"torch_dtype": "float8"},
    {"dtype": ["float16"]},
]

GENERATION: list[Member] = [
    {"eos_token_id": each}
    for each in (True, [True], 2**64, [2**64], -1, [-1], 2**31, 2048, 2047, [], [[2]], "2", 2.0, None, {"a": 1}, [None])
]
GENERATION += [
    {"eos_token_id": list(range(2048))},
    {"eos_token_id": [2] * 1_000_000},
    {"temperature": raw("NaN")},
    {"temperature": -1},
    {"top_p": 1e308},
    {"top_k": -5},
    {"max_length": -1},
    {"pad_token_id": 2**64},
    {"suppress_tokens": list(range(2048))},
]

_TOKEN = {"content": "x", "lstrip": False, "normalized": False, "rstrip": False, "single_word": False, "special": True}
_WITHOUT_CONTENT = {name: flag for name, flag in _TOKEN.items() if name != "content"}

TOKENIZER_CONFIG: list[Member] = [
    {"added_tokens_decoder": {"0": _TOKEN}},
    {"added_tokens_decoder": {"-1": _TOKEN}},
    {"added_tokens_decoder": {str(2**64): _TOKEN}},
    {"added_tokens_decoder": {"٣": _TOKEN, " 3 ": _TOKEN, "3_0": _TOKEN}},
    {"added_tokens_decoder": {"9" * 5000: _TOKEN}},
    {"added_tokens_decoder": {"a": _TOKEN}},
    {"added_tokens_decoder": {"5000": {**_TOKEN, "content": ""}}},
    {"added_tokens_decoder": {"5000": _WITHOUT_CONTENT}},
    {"added_tokens_decoder": {str(n): {**_TOKEN, "content": f"<{n}>"} for n in range(20_000)}},
    {"added_tokens_decoder": []},
    {"extra_special_tokens": {"image_token": "x" * 100_000}},
    {"extra_special_tokens": [1, None, {}]},
    {"additional_special_tokens": "abc"},
    {"additional_special_tokens": [f"<{n}>" for n in range(20_000)]},
    {"eos_token": ""},
    {"eos_token": {"content": None}},
    {"eos_token": ["x"]},
    {"bos_token": "Hello"},
    {"split_special_tokens": "yes"},
    {"model_max_length": -1},
    {"model_max_length": _HUGE},
    {"model_max_length": True},
    {"tokenizer_class": "../../Evil"},
    {"auto_map": {"AutoTokenizer": ["evil.Tokenizer", None]}},
    {"chat_template": []},
    {"chat_template": {"default": 5}},
    {"chat_template": [{"name": None, "template": "x"}]},
    {"chat_template": [{"name": f"n{n}", "template": "x"} for n in range(1000)]},
    {"chat_template": "{{ messages }}"},
]

SPECIAL_TOKENS_MAP: list[Member] = [
    {"eos_token": "<|im_end|>"},
    {"eos_token": {"content": "<|new|>", "lstrip": True}},
    {"bos_token": 5},
    {"additional_special_tokens": [["a"]]},
    {"additional_special_tokens": ["", "", "é", "e\u0301"]},
    {"x_token": "a"},
]

ADDED_TOKENS: list[Member] = [
    {"<|new|>": 2048},
    {"<|new|>": 2**64},
    {"<|new|>": -1},
    {"<|new|>": "a"},
    {"<|new|>": True, "<|more|>": 1},
    {"": 5},
    {"<|new|>": None},
    {f"<{n}>": n for n in range(20_000)},
]
