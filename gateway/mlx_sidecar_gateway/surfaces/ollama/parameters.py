"""The parameters of Ollama's requests, and the members of what stands in their lists."""

from __future__ import annotations

from typing import Final

from ..parameters import Harmless, Parameters

_DEVICE: Final = Harmless("the sidecar decides how the device is used")
_NO_MIROSTAT: Final = Harmless("mirostat is off")

OPTIONS: Final = {
    "seed": "seed",
    "num_predict": "max_tokens",
    "temperature": "temperature",
    "top_k": "top_k",
    "top_p": "top_p",
    "min_p": "min_p",
    "repeat_penalty": "repetition_penalty",
    "presence_penalty": "presence_penalty",
    "frequency_penalty": "frequency_penalty",
    "stop": "stop",
}
"""Members of ``options``, and the sidecar's names for them."""

_HARMLESS_OPTIONS: Final = {
    "num_ctx": Harmless("the context is the model's, and a prompt that is longer is refused"),
    "num_keep": Harmless("nothing of a prompt is ever dropped"),
    "num_batch": _DEVICE,
    "num_gpu": _DEVICE,
    "main_gpu": _DEVICE,
    "low_vram": _DEVICE,
    "f16_kv": _DEVICE,
    "use_mmap": _DEVICE,
    "use_mlock": _DEVICE,
    "num_thread": _DEVICE,
    "numa": _DEVICE,
    "mirostat": Harmless("there is no such sampling", only=(0,)),
    "mirostat_tau": _NO_MIROSTAT,
    "mirostat_eta": _NO_MIROSTAT,
    "tfs_z": Harmless("there is no such filter", only=(1, 1.0)),
    "typical_p": Harmless("there is no such filter", only=(1, 1.0)),
    "repeat_last_n": Harmless("penalties look at the whole text", only=(-1,)),
    "penalize_newline": Harmless("penalties look at all tokens", only=(True,)),
    "logits_all": Harmless("there is no such mode", only=(False,)),
    "vocab_only": Harmless("there is no such mode", only=(False,)),
    "embedding_only": Harmless("there is no such mode", only=(False,)),
}
_HONOURED: Final = frozenset(
    {"model", "stream", "format", "options", "keep_alive", "think", "logprobs", "top_logprobs"}
    | {f"options.{name}" for name in OPTIONS}
)
_HARMLESS: Final = {
    **{f"options.{name}": why for name, why in _HARMLESS_OPTIONS.items()},
    "truncate": Harmless("a prompt that is too long is refused", only=(False,)),
    "shift": Harmless("nothing is dropped when the context is full", only=(False,)),
}
_NO_IMAGES: Final = Harmless("images are not understood yet", only=([],))

CHAT: Final = Parameters(_HONOURED | {"messages", "tools"}, _HARMLESS)
GENERATE: Final = Parameters(
    _HONOURED | {"prompt", "system", "raw"},
    _HARMLESS
    | {
        "images": _NO_IMAGES,
        "suffix": Harmless("there is no filling in", only=("",)),
        "template": Harmless("the model has its own template", only=("",)),
        "context": Harmless("conversations are kept by chat", only=([],)),
    },
    {
        "width": "images are not made here",
        "height": "images are not made here",
        "steps": "images are not made here",
    },
)
_OF_EMBED: Final = frozenset({"model", "options", "keep_alive"})
_OPTIONS_OF_EMBED: Final = {
    f"options.{name}": why
    for name, why in {
        **_HARMLESS_OPTIONS,
        **dict.fromkeys(OPTIONS, Harmless("nothing is generated")),
        "num_ctx": Harmless("the limit is the model's"),
    }.items()
}
EMBED: Final = Parameters(_OF_EMBED | {"input", "truncate", "dimensions"}, _OPTIONS_OF_EMBED)
EMBEDDINGS: Final = Parameters(_OF_EMBED | {"prompt"}, _OPTIONS_OF_EMBED)
SHOW: Final = Parameters(
    frozenset({"model", "name"}), {"verbose": Harmless("there is nothing more to tell")}, {"system": "it is not known"}
)

MESSAGE: Final = Parameters(
    frozenset({"role", "content", "thinking", "tool_calls", "tool_name", "tool_call_id", "name", "images"})
)
CALL: Final = Parameters(frozenset({"id", "type", "function", "function.name", "function.arguments", "function.index"}))
TOOL: Final = Parameters(
    frozenset({"type", "function", "function.name", "function.description", "function.parameters", "function.strict"})
)
