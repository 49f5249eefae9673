"""A model with an adapter is a model of its own for clients, in the batch of the model without."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from openai import BadRequestError, OpenAI
from openai.types.chat import ChatCompletionMessageParam

from mlx_sidecar import pocket
from mlx_sidecar.cli.arguments import command_line
from mlx_sidecar.cli.failures import Refused
from mlx_sidecar.cli.gateway import run
from tests.gateway.gateway_process import gateway_process
from tests.support.adapters import shapes_of, write_adapter


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenAI]:
    adapter = write_adapter(tmp_path_factory.mktemp("adapter"), shapes_of(pocket.PATH), size=2.0)
    options = ("--model", "small=pocket", "--adapter", f"small:other={adapter}")
    with gateway_process(*options) as started, OpenAI(base_url=f"{started.url}/v1", api_key="any") as made:
        yield made


def answer(client: OpenAI, model: str) -> str | None:
    asked: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Tell me of the sea."}]
    done = client.chat.completions.create(model=model, messages=asked, max_tokens=20, temperature=0)
    return done.choices[0].message.content


def test_its_name_gives_the_answer_of_the_adapter(client: OpenAI) -> None:
    plain = answer(client, "small")
    assert answer(client, "small:other") != plain
    assert answer(client, "small") == plain


def test_it_is_listed(client: OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["small", "small:other"]


def test_embeddings_refuse_it_by_name(client: OpenAI) -> None:
    with pytest.raises(BadRequestError) as refused:
        client.embeddings.create(model="small:other", input="Hi")
    assert (refused.value.code, refused.value.param) == ("unsupported_parameter", "model")


@pytest.mark.parametrize(
    ("adapter", "words"),
    [
        ("small:other", "is not NAME:ADAPTER=DIR"),
        ("small=there", "is not NAME:ADAPTER=DIR"),
        ("large:other=there", "no --model has the name 'large'"),
    ],
)
def test_an_adapter_of_no_model_is_refused_by_name(adapter: str, words: str) -> None:
    with pytest.raises(Refused, match=words):
        run(command_line(["gateway"]).parse(["gateway", "--model", "small=pocket", "--adapter", adapter]))


def test_one_that_is_not_there_keeps_the_gateway_from_starting(tmp_path: Path) -> None:
    options = ("--model", "small=pocket", "--adapter", f"small:other={tmp_path / 'nowhere'}")
    with gateway_process(*options, is_ready=False) as started:
        assert started.process.wait(60) == 1
