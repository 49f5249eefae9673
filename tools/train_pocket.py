"""Trains the pocket model from scratch and writes it into `runtime/mlx_sidecar/pocket/`; or re-scores the one there.

    python tools/train_pocket.py            # train, score, write (about a quarter of an hour on one x86 core)
    python tools/train_pocket.py --check    # score the committed model, change nothing
    python tools/train_pocket.py --ask "What is a delta?"

One seed, one model: data, order and first weights are functions of `--seed`, given one version of Python (its standard
library is part of the text) and of mlx. Without the native BLAS of this repository it works, ten times slower.
"""

from __future__ import annotations

import argparse
import json
import platform
from itertools import islice
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
DESTINATION = ROOT / "runtime" / "mlx_sidecar" / "pocket"


def preload_blas() -> None:
    """Loads the repository's BLAS, if it was built, before mlx is imported."""
    from mlx_sidecar.engine.execution import blas

    print(blas.preload("fast"), flush=True)


def main() -> int:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="score the model that is there and change nothing")
    parser.add_argument("--ask", metavar="QUESTION", help="print the model's answer to one question")
    parser.add_argument("--seed", type=int, default=20, help="seed of the data and of the first weights")
    parser.add_argument("--steps", type=int, help="optimizer steps (default: as the model was trained)")
    parser.add_argument("--out", type=Path, default=DESTINATION, help="directory to write to, or to check")
    arguments = parser.parse_args()
    preload_blas()
    if arguments.ask:
        return ask(arguments.out, arguments.ask)
    return check(arguments.out, arguments.seed) if arguments.check else train(arguments)


def ask(directory: Path, question: str) -> int:
    """Prints one greedy answer."""
    from pocket_lab.chat import Chat, turn
    from pocket_lab.scoring import Speaker

    speaker = Speaker.load(directory)
    print(speaker.complete(speaker.template.prompt(Chat((turn("user", question),))))[0])
    return 0


def check(directory: Path, seed: int) -> int:
    """Prints the score of the model in `directory`."""
    from pocket_lab.corpus import Corpus
    from pocket_lab.scoring import Speaker
    from pocket_lab.training import count, in_millions

    speaker = Speaker.load(directory)
    print(f"parameters: {count(speaker.model):,}")
    print("\n".join(scored(speaker, Corpus(seed, in_millions(speaker.model))).lines()))
    return 0


def scored(speaker: Any, corpus: Any) -> Any:
    """The score of a speaker on all held-out questions and texts of the corpus."""
    from pocket_lab.chat import Chat, turn
    from pocket_lab.corpus import held_out_code
    from pocket_lab.scoring import score

    probes = corpus.probes()
    answers = [Chat((*probe.chat.messages, turn("assistant", probe.answer))) for probe in probes if probe.answer]
    return score(speaker, probes, answers, held_out_code())


def train(arguments: argparse.Namespace) -> int:
    """Trains tokenizer and model, scores the model, and writes its files."""
    from pocket_lab import encode, training
    from pocket_lab.corpus import Corpus
    from pocket_lab.scoring import Speaker

    size, plan = training.Size(), training.Plan()
    plan = training.Plan(steps=arguments.steps) if arguments.steps else plan
    arguments.out.mkdir(parents=True, exist_ok=True)
    template = encode.Template(DESTINATION / "chat_template.jinja")
    sizing = size.config([0])
    millions = training.in_millions(training.new_model(sizing, 0))
    tokenizer = encode.train_tokenizer(sample_texts(Corpus(arguments.seed + 1, millions), template), size.vocabulary)
    config = size.config([encode.token_id(tokenizer, name) for name in (encode.TURN_END, encode.END_OF_TEXT)])
    model = training.new_model(config, arguments.seed)
    print(f"parameters: {training.count(model):,}  vocabulary: {tokenizer.get_vocab_size()}")
    corpus = Corpus(arguments.seed, millions)
    encoder = encode.Encoder(tokenizer, template)
    stream = encode.batches(map(encoder.encode, corpus.documents()), (128, 512), plan.tokens_per_step)
    seen, seconds = training.fit(model, stream, plan)
    print(f"{plan.steps} steps, {seen:,} tokens, {seconds:.0f} s")
    write(arguments.out, tokenizer, config, training.rounded(model))
    result = scored(Speaker.load(arguments.out), corpus)
    print("\n".join(result.lines()))
    facts = {
        "parameters": training.count(model),
        "steps": plan.steps,
        "tokens": seen,
        "seconds": round(seconds),
        "seed": arguments.seed,
    }
    (arguments.out / "MODEL_CARD.md").write_text(card(facts, result.lines()), "utf-8")
    return 0


def sample_texts(corpus: Any, template: Any) -> list[str]:
    """Texts for the tokenizer to learn from."""
    from pocket_lab.chat import Chat

    return [
        template.prompt(document) + template.reply(document) if isinstance(document, Chat) else document.text
        for document in islice(corpus.documents(), 12_000)
    ]


def write(directory: Path, tokenizer: Any, config: dict[str, Any], weights: dict[str, Any]) -> None:
    """Writes all files but the model card, the template and `__init__.py`."""
    import mlx.core as mx

    tokenizer.save(str(directory / "tokenizer.json"))
    mx.save_safetensors(str(directory / "model.safetensors"), weights, metadata={"format": "mlx"})
    template = (DESTINATION / "chat_template.jinja").read_text("utf-8")
    (directory / "chat_template.jinja").write_text(template, "utf-8")
    tokenizer_config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "bos_token": None,
        "unk_token": None,
        "add_bos_token": False,
        "clean_up_tokenization_spaces": False,
        "model_max_length": config["max_position_embeddings"],
    }
    generation_config = {
        "eos_token_id": config["eos_token_id"],
        "pad_token_id": config["eos_token_id"][-1],
        "do_sample": False,
    }
    for name, value in (
        ("config", config),
        ("tokenizer_config", tokenizer_config),
        ("generation_config", generation_config),
    ):
        (directory / f"{name}.json").write_text(json.dumps(value, indent=2) + "\n", "utf-8")


def card(facts: dict[str, int], score_lines: list[str]) -> str:
    """The text of MODEL_CARD.md."""
    from pocket_lab.card import CARD

    table = "\n".join(score_lines)
    return CARD.format(score=table, python=platform.python_version(), **facts)


if __name__ == "__main__":
    raise SystemExit(main())
