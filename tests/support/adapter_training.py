"""``python -m tests.support.adapter_training OUT``: train an adapter of pocket with mlx-lm's own trainer.

Prints, as JSON, the ``prompt`` and the answer that it was trained to give (``wanted``), and the tokens that mlx-lm
gives by itself, greedily and in float32: without the adapter (``base``) and with it (``tuned``).
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
from pathlib import Path
from typing import Any, cast

import mlx.core as mx
import mlx.optimizers as optim
from mlx_lm.models.cache import make_prompt_cache
from mlx_lm.tuner.trainer import TrainingArgs, train
from mlx_lm.tuner.utils import linear_to_lora_layers, load_adapters
from mlx_lm.utils import load_model
from tokenizers import Tokenizer

from mlx_sidecar.pocket import PATH

PROMPT = "The word of the day is"
WANTED = " serendipity, as it was yesterday and will be tomorrow."
TOKENS = 12
CONFIG: dict[str, Any] = {
    "fine_tune_type": "lora",
    "num_layers": 4,
    "lora_parameters": {"rank": 8, "scale": 10.0, "dropout": 0.0},
}


def loaded() -> Any:
    model, _ = load_model(PATH)
    model.set_dtype(mx.float32)
    return model


def greedy(model: Any, tokens: list[int], count: int = TOKENS) -> list[int]:
    model.eval()
    cache = make_prompt_cache(model)
    logits = model(mx.array([tokens]), cache=cache)
    found = []
    for _ in range(count):
        found.append(int(cast("int", mx.argmax(logits[0, -1]).item())))
        logits = model(mx.array([found[-1:]]), cache=cache)
    return found


def trained(out: Path, text: list[int]) -> None:
    mx.disable_compile()  # on a CPU it runs a compiler
    mx.random.seed(7)
    model = loaded()
    model.freeze()
    linear_to_lora_layers(model, CONFIG["num_layers"], CONFIG["lora_parameters"])
    args = TrainingArgs(batch_size=1, iters=60, adapter_file=str(out / "adapters.safetensors"), steps_per_save=1000)
    train(model, optim.Adam(learning_rate=3e-3), [(text, 0)], args=args)
    (out / "adapter_config.json").write_text(json.dumps(CONFIG))


def main(out: Path) -> None:
    tokenizer = Tokenizer.from_file(str(PATH / "tokenizer.json"))
    prompt, wanted = (tokenizer.encode(text, add_special_tokens=False).ids for text in (PROMPT, WANTED))
    out.mkdir(parents=True, exist_ok=True)
    with contextlib.redirect_stdout(io.StringIO()):
        trained(out, prompt + wanted)
    base = greedy(loaded(), prompt)
    tuned = greedy(load_adapters(loaded(), str(out)), prompt)
    print(json.dumps({"prompt": prompt, "wanted": wanted[:TOKENS], "base": base, "tuned": tuned}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
