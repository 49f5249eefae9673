"""Models of random weights with a tokenizer whose tokens are bytes, so that forms can be asked of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from tests.support import adapters, random_models, text_models
from tests.support.sidecar import Sidecar

from .features import ADAPTER, BEGIN, BEGIN_TOKEN, DRAFT

# With a seed that gives greedy answers something new in their middle, to stop at. The draft is a twin of the first.
KINDS = {
    "attention": ("qwen3", 5),
    "sliding window": ("sliding", 0),
    "recurrent": ("lfm2", 0),
    DRAFT: ("qwen3", 5),
}
ADAPTED = ("attention", "sliding window")
_VOCABULARY = 300
# Two tokens of the recurrent model mark its reasoning. The others, one of which drafts for two, spell their markers.
SPELLED, SPECIAL = ("<think>", "</think>"), ("[THINK]", "[/THINK]")


def load_adapters(process: Sidecar, models: dict[str, str]) -> None:
    """Load the adapter of each model that has one, and the model if need be."""
    for name in ADAPTED:
        path = str(Path(models[name]).with_name(f"{name} adapter"))
        process.call("adapter/load", {"model": models[name], "adapter": ADAPTER, "path": path})


def write_models(root: Path) -> dict[str, str]:
    """Make the models in ``root``; return their paths by name."""
    for name, (kind, seed) in KINDS.items():
        random_models.write_model(root / name, kind, seed=seed)
        text_models.write_model(root / name, *(_bytes(SPECIAL, SPECIAL) if name == "recurrent" else _bytes(SPELLED)))
    for name in ADAPTED:
        adapters.write_adapter(root / f"{name} adapter", adapters.shapes_of(root / name), size=0.1)
    return {name: str(root / name) for name in KINDS}


def _bytes(markers: tuple[str, str], tokens: tuple[str, ...] = ()) -> tuple[Tokenizer, dict[str, Any]]:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={letter: at for at, letter in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    unused = range(len(alphabet) + 1 + len(tokens), _VOCABULARY)
    named = {BEGIN_TOKEN: BEGIN, BEGIN_TOKEN - 1: "yes", BEGIN_TOKEN - 2: "no"}  # of a call, and of reranking
    special = [named.get(at, f"<unused{at}>") for at in unused]
    tokenizer.add_special_tokens(["<end>", *tokens, *special])
    opening = f"{{{{ '{markers[0]}' if enable_thinking else '{''.join(markers)}' }}}}"
    template = "{%- for message in messages %}{{ message.content }}{%- endfor %}" + opening
    return tokenizer, {"eos_token": "<end>", "chat_template": template}
