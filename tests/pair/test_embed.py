"""``embed`` and ``rerank`` over the pair in memory: what is answered, what is refused, and what outlives an engine."""

from __future__ import annotations

import base64
import math
import signal
from array import array
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.host import Frame
from tests.support.pair import Pair, pair

MODEL = "fake?dimensions=8"
SLOW = "fake?dimensions=8&prefill_ms=200"


@pytest.fixture(scope="module")
def process() -> Iterator[Pair]:
    """A sidecar for the tests that kill no engine."""
    with pair() as running:
        running.initialize()
        yield running


def embed(process: Pair, *texts: Any, **params: Any) -> Frame:
    return process.call("embed", {"model": MODEL, "input": list(texts), **params})


def length(vector: list[float]) -> float:
    return math.hypot(*vector)


def fault(process: Pair, method: str, params: Frame) -> tuple[str, list[Any]]:
    """The kind of an error, and the path of the first field at fault."""
    data = process.error(method, params)["data"]
    return data["kind"], data["errors"][0]["loc"] if "errors" in data else [data.get("name") or data.get("field")]


def test_each_text_gets_a_vector_in_the_order_of_the_request(process: Pair) -> None:
    result = embed(process, "a stone", "a river", "a stone")
    first, second, third = result["embeddings"]
    assert first == third != second
    assert [len(vector) for vector in result["embeddings"]] == [8, 8, 8]
    assert length(first) == pytest.approx(1.0, abs=1e-6)
    assert {name: result[name] for name in ("pooling", "dimensions", "normalized")} == {
        "pooling": "mean",
        "dimensions": 8,
        "normalized": True,
    }
    assert result["usage"] == {"prompt_tokens": 21, "cached_tokens": 0}
    assert "truncated" not in result
    assert "prefix" not in result


def test_base64_is_the_same_numbers_as_float32(process: Pair) -> None:
    numbers = embed(process, "a stone")["embeddings"][0]
    encoded = embed(process, "a stone", encoding="base64")["embeddings"][0]
    assert array("f", base64.b64decode(encoded)).tolist() == numbers


def test_a_list_of_tokens_is_taken_as_it_is(process: Pair) -> None:
    assert embed(process, list(b"a stone"))["embeddings"] == embed(process, "a stone")["embeddings"]


def test_parameters_change_the_vector_as_they_say(process: Pair) -> None:
    whole = embed(process, "a stone", normalize=False)["embeddings"][0]
    assert length(whole) != pytest.approx(1.0, abs=1e-3)
    cut = embed(process, "a stone", dimensions=3)
    assert cut["dimensions"] == 3
    assert cut["embeddings"][0] == pytest.approx([number / length(whole[:3]) for number in whole[:3]], abs=1e-6)
    other = embed(process, "a stone", pooling="last")
    assert other["pooling"] == "last"
    assert other["embeddings"][0] != pytest.approx(embed(process, "a stone")["embeddings"][0], abs=1e-3)
    led = embed(process, "stone", instruction="a ")
    assert led["prefix"] == "a "
    assert led["embeddings"] == embed(process, "a stone")["embeddings"]


def test_a_text_that_is_too_long_is_refused_by_its_number_or_cut(process: Pair) -> None:
    params = {"model": "fake?context=16", "input": ["short", "x" * 20]}
    error = process.error("embed", params)
    assert error["data"] == {
        "kind": "context_too_long",
        "retryable": False,
        "have": 20,
        "limit": 16,
        "field": "input.1",
    }
    result = process.call("embed", {**params, "truncate": True})
    assert result["truncated"] == [1]
    assert result["embeddings"][1] == process.call("embed", {**params, "input": ["x" * 16]})["embeddings"][0]


REFUSED: list[tuple[Frame, str, list[Any]]] = [
    ({"input": []}, "invalid_params", ["input"]),
    ({"input": "a stone"}, "invalid_params", ["input"]),
    ({"input": ["x", 3]}, "invalid_params", ["input", 1]),
    ({"input": ["x", []]}, "invalid_params", ["input", 1]),
    ({"input": ["x", [300]]}, "invalid_params", ["input", 1]),
    ({"input": ["x", ""]}, "invalid_params", ["input", 1]),
    ({"input": ["x"] * 2049}, "invalid_params", ["input"]),
    ({"input": ["x"], "pooling": "middle"}, "invalid_params", ["pooling"]),
    ({"input": ["x"], "pooling": "cls"}, "unsupported_parameter", ["pooling"]),
    ({"input": ["x"], "dimensions": 9}, "invalid_params", ["dimensions"]),
    ({"input": ["x"], "dimensions": 0}, "invalid_params", ["dimensions"]),
    ({"input": ["x"], "encoding": "hex"}, "invalid_params", ["encoding"]),
    ({"input": ["x"], "deadline_s": 0}, "invalid_params", ["deadline_s"]),
    ({"input": [[1]], "instruction": "a"}, "invalid_params", ["instruction"]),
    ({"input": [[1]], "prompt": "query"}, "invalid_params", ["prompt"]),
    ({"input": ["x"], "prompt": "query"}, "invalid_params", ["prompt"]),
    ({"input": ["x"], "prompt": "query", "instruction": "a"}, "invalid_params", ["prompt"]),
    ({"input": ["x"], "prompt": ""}, "invalid_params", ["prompt"]),
    ({"input": ["x"], "user": "me"}, "invalid_params", ["user"]),
]


@pytest.mark.parametrize(("params", "kind", "loc"), REFUSED, ids=lambda value: str(value)[:40])
def test_what_cannot_be_honoured_is_refused_by_the_name_of_its_field(
    process: Pair, params: Frame, kind: str, loc: list[Any]
) -> None:
    assert fault(process, "embed", {"model": MODEL, **params}) == (kind, loc)


def test_more_numbers_than_an_answer_holds_are_refused(process: Pair) -> None:
    params = {"model": "fake?dimensions=4096", "input": ["x"] * 2048}
    assert fault(process, "embed", params) == ("invalid_params", ["input"])


def test_a_card_says_whether_and_how_a_model_embeds(process: Pair) -> None:
    card = process.call("load", {"model": MODEL})
    assert card["embedding"] == {"dimensions": 8, "max_tokens": 8192, "pooling": "mean", "normalize": True}
    assert (card["generates"], card["reranks"]) == (True, True)


def test_more_texts_than_the_engine_is_given_at_once_are_all_answered(process: Pair) -> None:
    texts = [f"text {number % 7}" for number in range(300)]
    vectors = embed(process, *texts)["embeddings"]
    assert all(vector == vectors[number % 7] for number, vector in enumerate(vectors))


def test_a_cancel_ends_the_request_with_one_answer_and_leaves_nothing(process: Pair) -> None:
    running = process.request("embed", {"model": "fake?prefill_ms=60000", "input": ["x"] * 100})
    process.call("ping")
    process.notify("$/cancelRequest", {"id": running})
    assert process.answer(running)["error"]["data"]["kind"] == "cancelled"
    queue = process.call("stats")["queue"]
    assert queue["waiting"] == 0, queue


def test_a_deadline_ends_the_request_as_passed(process: Pair) -> None:
    params = {"model": "fake?prefill_ms=60000", "input": ["x"] * 3, "deadline_s": 0.1}
    assert process.error("embed", params)["data"]["kind"] == "deadline_passed"


def test_vectors_outlive_the_engine_that_made_the_first_ones() -> None:
    texts = [f"text {number}" for number in range(200)]
    with pair() as process:
        process.initialize()
        undisturbed = process.call("embed", {"model": MODEL, "input": texts})
        running = process.request("embed", {"model": "fake?dimensions=8&prefill_ms=30", "input": texts})
        process.call("load", {"model": "fake?dimensions=8&prefill_ms=30"})
        process.end_engine(signal.SIGKILL)
        assert process.result(running)["embeddings"] == undisturbed["embeddings"]


def test_one_text_that_ends_every_engine_is_poison_and_no_other_request_notices() -> None:
    model = "fake?poison_token=64"  # @
    with pair() as process:
        process.initialize()
        good = process.request("embed", {"model": model, "input": ["a", "b"]})
        bad = process.request("embed", {"model": model, "input": ["a", "@", "c"]})
        assert process.answer(bad)["error"]["data"]["kind"] == "poison_request"
        assert len(process.result(good)["embeddings"]) == 2
        assert len(process.call("embed", {"model": model, "input": ["c"]})["embeddings"]) == 1


def test_documents_come_best_first_and_equal_ones_in_their_order(process: Pair) -> None:
    documents = ["a fish", "the red stone", "a red stone in a river", "a fish"]
    params = {"model": MODEL, "query": "red stone river ", "documents": documents}
    result = process.call("rerank", params)
    assert [item["index"] for item in result["results"]] == [2, 1, 0, 3]
    scores = [item["relevance_score"] for item in result["results"]]
    assert scores == sorted(scores, reverse=True)
    assert all(0 <= score <= 1 for score in scores)
    assert result["usage"]["prompt_tokens"] == sum(len(params["query"]) + len(each) for each in documents)
    best = process.call("rerank", {**params, "top_n": 2})
    assert best["results"] == result["results"][:2]


@pytest.mark.parametrize(
    ("params", "loc"),
    [
        ({"documents": []}, ["documents"]),
        ({"documents": ["x", 3]}, ["documents", 1]),
        ({"query": ""}, ["query"]),
        ({"top_n": 0}, ["top_n"]),
        ({"instruction": "find"}, ["instruction"]),
        ({"documents": ["x", "y" * 9000]}, ["documents.1"]),
        ({"query": "q" * 9000, "truncate": True}, ["query"]),
        ({"query": "q" * 9000}, ["query"]),
        ({"query": "q" * 40_000, "documents": ["x"] * 2000}, ["query"]),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_rerank_cannot_honour_is_refused_by_the_name_of_its_field(
    process: Pair, params: Frame, loc: list[Any]
) -> None:
    assert fault(process, "rerank", {"model": MODEL, "query": "q", "documents": ["x"], **params})[1] == loc
