"""This benchmark tells which forward runs each architecture of mlx-lm, and whether its answers are mlx-lm's own.

    python -m benchmarks.architectures [--numerics exact] [NAME …]

Models are tiny and random. Each is tried as it is made, with 4 layers, and ill-conditioned, with 30 layers and an entry
of 1e3 in the residual of every token, as real models have at some tokens.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from typing import Any, NamedTuple, cast

from mlx_sidecar.engine.execution.blas import preload

LAYERS, DEEP_LAYERS = 4, 30
VOCABULARY = 300
PROMPT = [(7 * i + i // 5) % VOCABULARY for i in range(150)]
ANSWER_TOKENS = 12
_ENTRY, _LARGE = 5, 1e3  # of the residual

_COMMON: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "rms_norm_eps": 1e-6,
    "layer_norm_eps": 1e-5,
    "layer_norm_epsilon": 1e-5,
    "norm_eps": 1e-5,
    "vocab_size": VOCABULARY,
    "max_position_embeddings": 4096,
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
    "attention_bias": False,
    "mlp_bias": False,
    "sliding_window": 32,
    "sliding_window_pattern": 2,
    "partial_rotary_factor": 0.5,
}
_EXPERTS = {"num_experts": 4, "num_local_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 64}
_GPT2 = {"n_embd": 64, "n_head": 4, "n_positions": 512, "n_ctx": 512}
_MAMBA = {"state_size": 8, "conv_kernel": 4, "use_bias": False, "use_conv_bias": True, "time_step_rank": 4}
_QWEN_MOE = {**_EXPERTS, "shared_expert_intermediate_size": 64, "decoder_sparse_step": 1, "norm_topk_prob": True}
_LFM2 = {
    "conv_bias": False,
    "conv_L_cache": 3,
    "block_dim": 64,
    "block_ff_dim": 128,
    "block_multiple_of": 32,
    "block_ffn_dim_multiplier": 1.0,
    "block_auto_adjust_ff_dim": False,
}
_SCALES = {"logits_scaling": 1.0, "embedding_multiplier": 1.0, "residual_multiplier": 1.0, "attention_multiplier": 0.25}
_QWEN3_5 = {
    "model_type": "qwen3_5_text",
    "linear_num_value_heads": 4,
    "linear_num_key_heads": 2,
    "linear_key_head_dim": 16,
    "linear_value_head_dim": 16,
    "linear_conv_kernel_dim": 4,
    "full_attention_interval": 2,
}
_LLAMA4 = {
    "model_type": "llama4_text",
    "attention_chunk_size": 32,
    "interleave_moe_layer_step": 1,
    "intermediate_size_mlp": 128,
    "num_experts_per_tok": 1,
    "num_local_experts": 2,
    "use_qk_norm": True,
    "rope_scaling": None,
}
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "cohere": {},
    "cohere2": {},
    "deepseek": {"n_routed_experts": 4, **_EXPERTS},
    "ernie4_5": {"use_bias": False},
    "exaone": {"num_layers": LAYERS},
    "falcon_h1": {},
    "gemma": {},
    "gemma2": {"query_pre_attn_scalar": 16, "final_logit_softcapping": 30.0, "attn_logit_softcapping": 50.0},
    "gemma3_text": {},
    "glm4": {},
    "gpt2": _GPT2,
    "gpt_neox": {"rotary_pct": 0.5, "rotary_emb_base": 10000, "use_parallel_residual": True},
    "gpt_oss": _EXPERTS,
    "granite": _SCALES,
    "helium": {},
    "internlm2": {"bias": False},
    "lfm2": {**_LFM2, "full_attn_idxs": list(range(1, DEEP_LAYERS, 2))},
    "llama": {},
    "llama4": {"text_config": _LLAMA4},
    "mamba": _MAMBA,
    "minicpm": {"scale_emb": 1.0, "scale_depth": 1.4, "dim_model_base": 64},
    "mixtral": _EXPERTS,
    "olmo2": {},
    "olmoe": {**_EXPERTS, "norm_topk_prob": True},
    "phi": {},
    "phi3": {},
    "qwen2": {},
    "qwen2_moe": _QWEN_MOE,
    "qwen3": {},
    "qwen3_5": {"text_config": _QWEN3_5},
    "qwen3_moe": {**_QWEN_MOE, "mlp_only_layers": []},
    "seed_oss": {},
    "smollm3": {},
    "stablelm": {"use_qkv_bias": False},
    "starcoder2": {},
}
_COUNTS = ("num_hidden_layers", "n_layer", "num_layers")


class Row(NamedTuple):
    """``cached`` tokens of the prompt were in the prefix cache the second time; the probe took ``seconds``."""

    forward: str
    cached: int
    warm_is_cold: bool
    greedy_is_own: bool
    seconds: float


def make(name: str, *, ill: bool) -> Any:
    """Make a float32 model of architecture ``name``."""
    import mlx.core as mx
    from mlx.utils import tree_map

    from mlx_sidecar.engine.execution import mlxlm

    more = ARCHITECTURES[name]
    layers = dict.fromkeys(_COUNTS, DEEP_LAYERS if ill else LAYERS)
    config = {**_COMMON, "model_type": name, **more, **layers}
    if "text_config" in more:
        config["text_config"] = {**_COMMON, **more["text_config"], **layers}
    if name == "lfm2":
        config["full_attn_idxs"] = list(range(1, layers["n_layer"], 2))
    model_class, arguments = mlxlm.get_classes(config)
    mx.random.seed(0)
    model = model_class(arguments.from_dict(config))
    key = mx.random.key(0)

    def spread(array: mx.array) -> mx.array:
        nonlocal key
        key, use = mx.random.split(key)
        return array + 0.08 * mx.random.normal(array.shape, key=use) if array.ndim > 1 else array

    model.update(tree_map(spread, model.parameters()))
    if ill:
        _make_ill(model)
    mx.eval(model.parameters())
    return model


def _make_ill(model: Any) -> None:
    """Let every token bring a large entry into the residual, or every third token where the embedding is also the head.

    A head makes logits large by it, and with all of them large their differences would be mostly rounding.
    """
    embedding = next(
        module
        for _, module in model.named_modules()
        if hasattr(module, "as_linear") and module.weight.shape[0] == VOCABULARY
    )
    every = 1 if "lm_head" in dict(model.named_modules()) else 3
    embedding.weight[::every, _ENTRY] = _LARGE


def own_greedy(model: Any) -> list[int]:
    """Return mlx-lm's answer: the prompt in one pass, and then token by token."""
    import mlx.core as mx

    from mlx_sidecar.engine.execution import mlxlm

    caches = mlxlm.make_prompt_cache(model)
    tokens, answer = mx.array([PROMPT]), []
    for _ in range(ANSWER_TOKENS):
        answer.append(cast("int", mx.argmax(model(tokens, cache=caches)[0, -1]).item()))
        tokens = mx.array([answer[-1:]])
    return answer


def judged(name: str, *, ill: bool) -> Row:
    """Return the row of one architecture. Raises any error of its probe."""
    from mlx_sidecar.engine.execution.probe import probe

    from .prefixes.rig import rig

    model = make(name, ill=ill)
    own = own_greedy(model)
    began = time.perf_counter()
    geometry = probe(name, model)
    seconds = time.perf_counter() - began
    if geometry.forward.uncacheable:
        answer = _uncached(geometry)
        return Row(geometry.forward.name, 0, answer == _uncached(geometry), answer == own, seconds)
    with rig(geometry, None, name) as made:
        cold, warm = made.generate(PROMPT, ANSWER_TOKENS), made.generate(PROMPT, ANSWER_TOKENS)
    return Row(geometry.forward.name, warm.cached, warm.tokens == cold.tokens, cold.tokens == own, seconds)


def _uncached(geometry: Any) -> list[int]:
    import mlx.core as mx

    from mlx_sidecar.engine.cache.prefixes import NOTHING
    from mlx_sidecar.engine.execution.forward import NEXT_TOKEN, Part, StepInput

    forward, answer = geometry.forward, []
    forward.open(1, len(PROMPT), NOTHING)
    logits = forward.run(StepInput([Part(1, len(PROMPT), NEXT_TOKEN)], mx.array(PROMPT))).wait()
    for _ in range(ANSWER_TOKENS):
        answer.append(cast("int", mx.argmax(logits[0]).item()))
        logits = forward.run(StepInput([Part(1, 1, NEXT_TOKEN)], mx.array(answer[-1:]))).wait()
    forward.close(1)
    return answer


def rows(names: list[str]) -> Iterator[tuple[str, bool, Row]]:
    for name in names:
        for ill in (False, True):
            yield name, ill, judged(name, ill=ill)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--numerics", choices=["fast", "exact"], default="fast")
    asked = parser.parse_args()
    preload(asked.numerics)
    wrong = 0
    print(
        "| architecture | | forward | cached | warm = cold | greedy = mlx-lm's | probe |\n|---|---|---|---|---|---|---|"
    )
    for name, ill, row in rows(asked.names or list(ARCHITECTURES)):
        wrong += not (row.warm_is_cold and row.greedy_is_own)
        said = ["no", "yes"]
        print(
            f"| {name} | {'ill-conditioned' if ill else 'plain'} | {row.forward} | {row.cached} |"
            f" {said[row.warm_is_cold]} | {said[row.greedy_is_own]} | {row.seconds:.2f} s |",
            flush=True,
        )
    print(f"\n{wrong} wrong")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
