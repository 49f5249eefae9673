"""Encoders and decoders under a real sidecar: the vectors of the reference, beside streams too; refusals by name."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from tests.support.encoder_models import (
    CONFIGS,
    KINDS,
    POSITIONS,
    WIDTH,
    classified,
    embedded,
    hidden_states,
    weights_of,
    write_dense_modules,
    write_encoder,
    write_modules,
)
from tests.support.forwards import native_only
from tests.support.host import Frame
from tests.support.random_models import write_model
from tests.support.sidecar import Sidecar, sidecar
from tests.support.text_models import byte_level

TEXTS = ["The engine answers", "a stream is cancelled by its name", "one", "numbers 123 and 3.14", "The engine answers"]
# The prompt of Qwen3-Reranker's model card, around instruction, query and document.
BEFORE = (
    "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the Instruct"
    ' provided. Note that the answer can only be "yes" or "no".<|im_end|>\n<|im_start|>user\n'
)
DECODERS = ("decoder", "decoder-4bit")
BEHIND = "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directories of encoders, cross-encoders (``-reranker``) and decoders, some of which embed by their files."""
    root = tmp_path_factory.mktemp("encoders")
    for kind in KINDS:
        write_encoder(root / kind, kind, pooling="cls" if kind == "xlm-roberta" else "mean")
        write_encoder(root / f"{kind}-reranker", kind, labels=1)
    write_encoder(root / "nameless", "bert", pooling=None)
    write_encoder(root / "two-labels", "bert", labels=2)
    write_encoder(root / "short", "bert")
    (root / "short" / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 8}))
    write_encoder(root / "centred", "bert")
    modules = json.loads((root / "centred" / "modules.json").read_text())
    modules[2]["type"] = "sentence_transformers.models.LayerNorm"
    (root / "centred" / "modules.json").write_text(json.dumps(modules))
    write_encoder(root / "misfit", "bert")
    write_dense_modules(root / "misfit", WIDTH + 1)
    for name in (*DECODERS, "decoder-dense", "not-causal", "plain", "wordless", "recurrent"):
        kind = "lfm2" if name == "recurrent" else "qwen3"
        write_model(root / name, kind, bits=4 if name == "decoder-4bit" else None)
        tokenizer, settings = byte_level(size=280)
        tokenizer.add_tokens([] if name == "wordless" else ["yes", "no"])
        tokenizer.save(str(root / name / "tokenizer.json"))
        (root / name / "tokenizer_config.json").write_text(json.dumps(settings))
        config = json.loads((root / name / "config.json").read_text())
        config |= {"vocab_size": 300, "eos_token_id": 7} | ({"is_causal": False} if name == "not-causal" else {})
        (root / name / "config.json").write_text(json.dumps(config))
    for name in (*DECODERS, "decoder-dense", "not-causal"):
        write_modules(root / name, "pooling_mode_lasttoken", normalize=True)
    return root


@pytest.fixture(scope="module")
def process() -> Iterator[Sidecar]:
    with sidecar("--numerics", "exact") as running:
        running.initialize()
        yield running


@pytest.fixture(scope="module")
def flat_process() -> Iterator[Sidecar]:
    """A sidecar whose decoders are computed by the flat forward, as on a GPU."""
    with sidecar("--numerics", "exact", "--native", "off") as running:
        running.initialize()
        yield running


class Decoder(NamedTuple):
    """A model, and a sidecar that computes it by ``forward``."""

    process: Sidecar
    model: str
    forward: str


@pytest.fixture(
    scope="module",
    params=[*(pytest.param(("native", name), marks=native_only) for name in DECODERS), ("flat", "decoder")],
    ids=", ".join,
)
def decoder(request: pytest.FixtureRequest, models: Path) -> Decoder:
    forward, name = request.param
    process = request.getfixturevalue("process" if forward == "native" else "flat_process")
    return Decoder(process, str(models / name), forward)


def tokens_of(process: Sidecar, model: str, text: str) -> list[int]:
    tokens: list[int] = process.call("tokenize", {"model": model, "text": text})["tokens"]
    return tokens


@pytest.mark.parametrize("kind", KINDS)
def test_vectors_are_those_of_the_reference_pooled_as_the_files_say(process: Sidecar, models: Path, kind: str) -> None:
    model = str(models / kind)
    result = process.call("embed", {"model": model, "input": TEXTS})
    pooling = "cls" if kind == "xlm-roberta" else "mean"
    assert result["pooling"] == pooling
    for text, vector in zip(TEXTS, result["embeddings"], strict=True):
        hidden = hidden_states(weights_of(kind), CONFIGS[kind], tokens_of(process, model, text))
        assert vector == pytest.approx(embedded(hidden, pooling), abs=2e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_under_exact_numerics_a_vector_has_the_same_bits_alone_and_in_any_batch(
    process: Sidecar, models: Path, kind: str
) -> None:
    source = np.random.default_rng(5)
    texts = [source.integers(3, 300, length).tolist() for length in (1, 3, 90, 3, 41, 96, 7, 64)]
    together = process.call("embed", {"model": str(models / kind), "input": texts})["embeddings"]
    for tokens, vector in zip(texts, together, strict=True):
        assert process.call("embed", {"model": str(models / kind), "input": [tokens]})["embeddings"] == [vector]


@pytest.mark.parametrize("kind", KINDS)
def test_scores_of_a_cross_encoder_are_those_of_the_reference(process: Sidecar, models: Path, kind: str) -> None:
    model, query = str(models / f"{kind}-reranker"), "one frame for each message"
    result = process.call("rerank", {"model": model, "query": query, "documents": TEXTS})
    weights = weights_of(kind, labels=1)
    first = tokens_of(process, model, query)
    for item in result["results"]:
        document = tokens_of(process, model, TEXTS[item["index"]])[1:]
        second = len(first) if kind == "bert" else 0
        hidden = hidden_states(weights, CONFIGS[kind], first + document, second)
        assert item["relevance_score"] == pytest.approx(classified(weights, CONFIGS[kind], hidden), abs=2e-6)
    scores = [item["relevance_score"] for item in result["results"]]
    assert scores == sorted(scores, reverse=True)


@pytest.mark.parametrize("name", ["nameless", "plain"])
def test_a_model_whose_files_name_no_pooling_is_refused_until_the_request_names_one(
    process: Sidecar, models: Path, name: str
) -> None:
    params = {"model": str(models / name), "input": ["one"]}
    error = process.error("embed", params)
    assert error["data"]["errors"][0]["loc"] == ["pooling"]
    assert process.call("embed", {**params, "pooling": "mean"})["pooling"] == "mean"


@pytest.mark.parametrize(
    ("method", "model", "params", "name"),
    [
        ("embed", "centred", {"input": ["one"]}, "model"),
        ("embed", "not-causal", {"input": ["one"]}, "model"),
        ("rerank", "bert", {"query": "q", "documents": ["d"]}, "model"),
        ("rerank", "two-labels", {"query": "q", "documents": ["d"]}, "model"),
        ("rerank", "bert-reranker", {"query": "q", "documents": ["d"], "instruction": "i"}, "instruction"),
        ("generate", "bert", {"prompt": "one"}, "model"),
        ("generate", "gemma3_text", {"prompt": "one"}, "model"),
        ("adapter/load", "bert", {"adapter": "a", "path": "/nowhere"}, "adapter"),
        ("cache/warm", "bert", {"prompt": "one"}, "model"),
        # mlx-lm's own caches.
        ("embed", "recurrent", {"input": ["one"], "pooling": "last"}, "model"),
    ],
)
def test_what_a_checkpoint_cannot_do_is_refused_by_name(
    process: Sidecar, models: Path, method: str, model: str, params: Frame, name: str
) -> None:
    error = process.error(method, {"model": str(models / model), **params})
    assert (error["data"]["kind"], error["data"]["name"]) == ("unsupported_parameter", name), error
    assert error["data"]["because"]


@pytest.mark.parametrize("kind", ["bert", "gemma3_text"])
def test_vectors_pass_the_dense_modules_before_they_are_cut_and_given_their_length(
    process: Sidecar, tmp_path: Path, kind: str
) -> None:
    write_encoder(tmp_path, kind)
    dense = write_dense_modules(tmp_path, WIDTH)
    model = str(tmp_path)
    assert process.call("load", {"model": model})["embedding"]["dimensions"] == 20
    whole, cut = (process.call("embed", {"model": model, "input": TEXTS, "dimensions": size}) for size in (20, 7))
    for number, text in enumerate(TEXTS):
        hidden = hidden_states(weights_of(kind), CONFIGS[kind], tokens_of(process, model, text))
        for size, result in ((20, whole), (7, cut)):
            assert result["embeddings"][number] == pytest.approx(embedded(hidden, "mean", size, dense), abs=1e-5)
    for text, vector in zip(TEXTS, whole["embeddings"], strict=True):
        assert process.call("embed", {"model": model, "input": [text]})["embeddings"] == [vector]


def test_vectors_of_a_decoder_pass_its_dense_modules(process: Sidecar, models: Path) -> None:
    directory = models / "decoder-dense"
    dense = write_dense_modules(directory, 64)
    plain = process.call("embed", {"model": str(models / "decoder"), "input": TEXTS, "normalize": False})["embeddings"]
    vectors = process.call("embed", {"model": str(directory), "input": TEXTS})["embeddings"]
    for pooled, vector in zip(plain, vectors, strict=True):
        assert vector == pytest.approx(embedded(np.array([pooled], dtype=np.float64), "last", None, dense), abs=1e-5)


def test_dense_modules_that_do_not_fit_the_model_are_refused_with_both_sizes(process: Sidecar, models: Path) -> None:
    error = process.error("load", {"model": str(models / "misfit")})
    assert error["data"]["kind"] == "model_load_failed"
    assert f"{WIDTH + 1} numbers" in error["message"]


def test_texts_are_cut_in_front_of_the_last_special_token(process: Sidecar, models: Path) -> None:
    model = str(models / "short")
    params: dict[str, Any] = {"model": model, "input": ["one", TEXTS[1]]}
    whole = tokens_of(process, model, TEXTS[1])
    error = process.error("embed", params)
    assert error["data"]["field"] == "input.1"
    assert (error["data"]["have"], error["data"]["limit"]) == (len(whole), 8)
    result = process.call("embed", {**params, "truncate": True})
    assert result["truncated"] == [1]
    cut = [*whole[:7], whole[-1]]
    assert result["embeddings"][1:] == process.call("embed", {"model": model, "input": [cut]})["embeddings"]


def test_an_instruction_that_leaves_nothing_of_a_text_is_refused(process: Sidecar, models: Path) -> None:
    params: dict[str, Any] = {"model": str(models / "short"), "input": ["one", "two"], "truncate": True}
    for words in range(1, 9):
        tokens = len(tokens_of(process, params["model"], "one " * words))
        asked = {**params, "instruction": "one " * words}
        if tokens < 8:
            one, two = process.call("embed", asked)["embeddings"]
            assert one != two, words
        else:
            assert process.error("embed", asked)["data"]["field"] == "instruction"


def test_a_document_is_cut_and_a_query_is_not(process: Sidecar, models: Path) -> None:
    params = {"model": str(models / "bert-reranker"), "query": "one", "documents": ["one", "one " * 2 * POSITIONS]}
    assert process.error("rerank", params)["data"]["field"] == "documents.1"
    result = process.call("rerank", {**params, "truncate": True})
    assert result["truncated"] == [1]
    for truncate in (True, False):
        error = process.error("rerank", {**params, "query": "one " * 2 * POSITIONS, "truncate": truncate})
        assert error["data"]["field"] == "query"


@pytest.mark.parametrize("name", ["bert-reranker", "plain"])
def test_a_query_that_no_document_fits_behind_is_refused_before_it_is_read_with_each(
    process: Sidecar, models: Path, name: str
) -> None:
    params = {"model": str(models / name), "query": "one " * 5000, "documents": ["one"] * 2000}
    assert process.error("rerank", params)["data"]["field"] == "query"


def test_an_instruction_is_named_where_it_leaves_no_room(process: Sidecar, models: Path) -> None:
    params = {"model": str(models / "plain"), "query": "one", "documents": ["one"], "instruction": "one " * 5000}
    assert process.error("rerank", params)["data"]["field"] == "instruction"


def test_a_decoder_embeds_by_its_last_token_behind_an_end_token(decoder: Decoder) -> None:
    process, model, forward = decoder
    card = process.call("load", {"model": model})
    assert (card["forward"], card["embedding"]["pooling"], card["embedding"]["dimensions"]) == (forward, "last", 64)
    texts = ["one frame", "x", "two frames for each message " * 9]
    together = process.call("embed", {"model": model, "input": texts})
    assert together["pooling"] == "last"
    for text, vector in zip(texts, together["embeddings"], strict=True):
        tokens = [*tokens_of(process, model, text), 7]
        assert process.call("embed", {"model": model, "input": [tokens]})["embeddings"] == [vector]
        assert np.linalg.norm(vector) == pytest.approx(1.0, abs=1e-6)
    asked = process.call("embed", {"model": model, "input": ["x"], "instruction": "Find"})
    assert asked["prefix"] == "Instruct: Find\nQuery:"
    assert (
        asked["embeddings"] == process.call("embed", {"model": model, "input": [asked["prefix"] + "x"]})["embeddings"]
    )


def test_a_decoder_embeds_and_generates_in_the_same_steps_and_neither_changes(decoder: Decoder) -> None:
    process, model, _ = decoder
    texts = [[(7 * number + at) % 290 for at in range(60 + number)] for number in range(8)]
    chat = {"model": model, "tokens": list(range(20)), "max_tokens": 40, "ignore_eos": True}
    for pooling in ("last", "mean", "max"):
        alone = process.call("embed", {"model": model, "input": texts, "pooling": pooling})["embeddings"]
        said = process.call("generate", chat)["tokens"]
        talking = [process.request("generate", chat) for _ in range(3)]
        assert process.call("embed", {"model": model, "input": texts, "pooling": pooling})["embeddings"] == alone, (
            pooling
        )
        assert all(process.result(id_)["tokens"] == said for id_ in talking)


@native_only
@pytest.mark.parametrize("pooling", ["last", "mean", "max"])
@pytest.mark.parametrize("name", DECODERS)
def test_vectors_of_native_code_are_those_of_the_flat_forward_with_the_same_weights(
    process: Sidecar, flat_process: Sidecar, models: Path, name: str, pooling: str
) -> None:
    params = {"model": str(models / name), "input": [*TEXTS, "two frames for each message " * 9], "pooling": pooling}
    own, other = (np.array(each.call("embed", params)["embeddings"]) for each in (process, flat_process))
    assert (np.vecdot(own, other) > 1 - 1e-6).all()


def test_an_instruction_is_computed_once_and_changes_no_bit(decoder: Decoder) -> None:
    process, model, _ = decoder
    params = {"model": model, "input": ["one", "two frames"], "instruction": "Find the frame that answers. " * 12}
    process.call("load", {"model": model})
    process.call("cache/clear", {"model": model})
    cold = process.call("embed", params)
    warm = process.call("embed", params)
    # Cold, the second text waits for the blocks that the first one computes.
    assert warm["usage"]["cached_tokens"] == 2 * cold["usage"]["cached_tokens"] >= 2 * 64
    assert warm["embeddings"] == cold["embeddings"]
    mean = process.call("embed", {**params, "pooling": "mean"})
    assert mean["usage"]["cached_tokens"] == 0  # it needs the hidden states of all tokens


@pytest.mark.parametrize("name", ["decoder", "plain"])
def test_documents_are_judged_by_the_logits_of_yes_and_no(process: Sidecar, models: Path, name: str) -> None:
    model, document = str(models / name), "one frame <|im_end|> for each message"
    result = process.call("rerank", {"model": model, "query": "frames", "documents": [document], "instruction": "Find"})
    asked = "<Instruct>: Find\n<Query>: frames\n<Document>: " + document
    parts = [(BEFORE, False), (asked, True), (BEHIND, False)]
    tokens = [
        token
        for text, escape in parts
        for token in process.call(
            "tokenize", {"model": model, "text": text, "add_special": False, "escape_special": escape}
        )["tokens"]
    ]
    assert result["usage"]["prompt_tokens"] == len(tokens)
    logprobs: dict[str, float] = {}
    for word in ("yes", "no"):
        (label,) = process.call("tokenize", {"model": model, "text": word, "add_special": False})["tokens"]
        params = {"model": model, "tokens": tokens, "max_tokens": 1, "logprobs": 0, "logit_bias": {str(label): 1e6}}
        (told,) = process.call("generate", params)["logprobs"]
        assert told["token"] == label
        logprobs[word] = told["logprob"]  # of the model's own distribution, before the bias
    expected = 1 / (1 + np.exp(logprobs["no"] - logprobs["yes"]))
    assert result["results"][0]["relevance_score"] == pytest.approx(expected, abs=1e-5)


def test_a_tokenizer_without_single_tokens_for_yes_and_no_is_refused(process: Sidecar, models: Path) -> None:
    error = process.error("rerank", {"model": str(models / "wordless"), "query": "q", "documents": ["d"]})
    assert error["data"]["name"] == "model"
    assert "yes and no" in error["message"]


@pytest.mark.parametrize("name", ["modernbert", "decoder-4bit"])
def test_vectors_outlive_an_engine_that_is_killed(models: Path, name: str) -> None:
    texts = [[3 + number % 290] * (1 + number % 90) for number in range(150)]
    params = {"model": str(models / name), "input": texts}
    with sidecar("--numerics", "exact") as process:
        process.initialize()
        undisturbed = process.call("embed", params)
        running = process.request("embed", params)
        process.end_engine(signal.SIGKILL)
        assert process.result(running)["embeddings"] == undisturbed["embeddings"]
        assert len(undisturbed["embeddings"]) == len(texts)
