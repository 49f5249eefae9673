"""Training data comes from a seed, has nothing held out in it, and marks exactly the right tokens as learned."""

from __future__ import annotations

import re
from itertools import islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pocket_lab.chat import Chat, Document, Plain, exchange, turn
from pocket_lab.corpus import Corpus
from pocket_lab.encode import Encoded, Encoder, Template, batches
from pocket_lab.plain import fill_in
from pocket_lab.tasks import held_out_pair, reasoning_of_sum
from pocket_lab.vary import plain_key
from tokenizers import Tokenizer

from mlx_sidecar.pocket import PATH

SUM = re.compile(r"(\d+) \+ (\d+) = (\d+)\.")
WIDTHS = (8, 32)


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder(Tokenizer.from_file(str(PATH / "tokenizer.json")), Template(PATH / "chat_template.jinja"))


@pytest.fixture(scope="module")
def documents() -> list[Document]:
    return list(islice(Corpus(3, "1").documents(), 4000))


def texts(documents: list[Document]) -> list[str]:
    chats = [str(message["content"]) for d in documents if isinstance(d, Chat) for message in d.messages]
    return chats + [document.text for document in documents if isinstance(document, Plain)]


def test_one_seed_gives_one_corpus(documents: list[Document]) -> None:
    assert list(islice(Corpus(3, "1").documents(), 4000)) == documents


def test_no_held_out_question_is_trained_on(documents: list[Document]) -> None:
    asked = {plain_key(said) for document in documents if isinstance(document, Chat) for said in document.said()}
    probes = [probe for probe in Corpus(3, "1").probes() if probe.room not in ("sums", "thinking")]
    assert len(probes) > 100
    assert [
        probe.chat.messages[-1]["content"] for probe in probes if plain_key(probe.chat.messages[-1]["content"]) in asked
    ] == []


def test_no_held_out_sum_is_trained_on_and_all_sums_are_right(documents: list[Document]) -> None:
    sums = [tuple(map(int, found)) for text in texts(documents) for found in SUM.findall(text)]
    assert len(sums) > 300
    assert all(left + right == total and not held_out_pair(left, right) for left, right, total in sums)


@given(st.integers(0, 99), st.integers(0, 99))
def test_the_reasoning_of_a_sum_ends_in_the_sum(left: int, right: int) -> None:
    assert reasoning_of_sum(left, right).endswith(f"So {left + right}.")


def test_only_the_turns_of_the_assistant_are_learned(encoder: Encoder) -> None:
    chat = Chat((turn("system", "Be brief."), *exchange("Hi", "Hello."), *exchange("Bye", "Goodbye.")))
    encoded = encoder.encode(chat)
    learned = [token for token, wanted in zip(encoded.tokens, encoded.learned, strict=True) if wanted]
    assert learned == encoder.ids("Hello.<|im_end|>") + encoder.ids("Goodbye.<|im_end|>")


@pytest.mark.parametrize("thinking", [None, True, False])
def test_what_the_prompt_opens_is_not_learned(encoder: Encoder, thinking: bool | None) -> None:
    reply = {"role": "assistant", "content": "4.", "reasoning_content": "Easy." if thinking else ""}
    encoded = encoder.encode(Chat((turn("user", "2 + 2?"), reply), thinking=thinking))
    learned = [token for token, wanted in zip(encoded.tokens, encoded.learned, strict=True) if wanted]
    assert learned == encoder.ids("Easy.\n</think>\n\n4.<|im_end|>" if thinking else "4.<|im_end|>")


def test_a_filled_gap_holds_the_text_and_nothing_else() -> None:
    from random import Random

    text = "def f(x):\n    y = x\n    return y\n"
    for seed in range(20):
        prefix, rest = fill_in(text, Random(seed)).removeprefix("<|fim_prefix|>").split("<|fim_suffix|>")
        suffix, middle = rest.split("<|fim_middle|>")
        assert prefix + middle + suffix == text


lengths = st.lists(st.integers(2, 40), min_size=1, max_size=60)


@settings(deadline=None)
@given(lengths)
def test_rows_hold_documents_whole_and_in_order(sizes: list[int]) -> None:
    documents = [Encoded([at + 1] * size, [True] * size) for at, size in enumerate(sizes)]
    for batch in batches(iter(documents), WIDTHS, 64):
        width = len(batch.tokens[0])
        for row in batch.tokens:
            assert len(row) == width
            for name in set(row) - {0}:
                assert row.count(name) == min(sizes[name - 1], WIDTHS[-1])
        for position, answer in zip(batch.targets, batch.answers, strict=True):
            assert batch.tokens[position // width][position % width + 1] == answer
