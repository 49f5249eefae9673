"""Vectors through the Python client: typed results, and any number of texts."""

from __future__ import annotations

import pytest

from mlx_sidecar_client import Sidecar
from mlx_sidecar_client.parameters import EmbedOptions, RerankOptions
from mlx_sidecar_client.protocol.embed import EmbedParams, RerankParams
from mlx_sidecar_client.protocol.errors import ContextTooLong, InvalidParams
from mlx_sidecar_client.sync import SyncSidecar

from .support import FAKE

MODEL = "fake?dimensions=4"


def test_options_are_the_parameters_of_the_protocol() -> None:
    assert set(EmbedOptions.__annotations__) == set(EmbedParams.model_fields) - {"model", "input"}
    assert set(RerankOptions.__annotations__) == set(RerankParams.model_fields) - {"model", "query", "documents"}


@pytest.mark.anyio
async def test_any_number_of_texts_get_vectors_in_their_order() -> None:
    texts = [f"text {number}" for number in range(23)]
    async with Sidecar.spawn(**FAKE) as sidecar:
        result = await sidecar.embed(MODEL, texts, pooling="mean")
        vectors = await sidecar.embed_all(MODEL, iter(texts), batch=5)
        assert [vector.tolist() for vector in vectors] == result.embeddings
        assert await sidecar.embed_all(MODEL, []) == []
        with pytest.raises(InvalidParams, match=r"\Ainput\.11: ") as refused:
            await sidecar.embed_all(MODEL, ["x"] * 11 + [""], batch=2)
        assert refused.value.details["errors"][0]["loc"] == ["input", 11]
        with pytest.raises(ContextTooLong, match=r"\Ainput\.7 has ") as too_long:
            await sidecar.embed_all(f"{MODEL}&context=8", ["x"] * 7 + ["x" * 9], batch=3)
        assert too_long.value.details["field"] == "input.7"
        with pytest.raises(TypeError, match="texts"):
            await sidecar.embed_all(MODEL, "one string")
        with pytest.raises(ValueError, match="batch"):
            await sidecar.embed_all(MODEL, texts, batch=0)


def test_a_program_without_a_loop_embeds_and_reranks() -> None:
    with SyncSidecar.spawn(**FAKE) as sidecar:
        assert len(sidecar.embed_all(MODEL, ["one", "two"])) == 2
        result = sidecar.rerank(MODEL, "red stone ", ["a fish", "a red stone"], top_n=1)
        assert [item.index for item in result.results] == [1]
        assert len(sidecar.embed(MODEL, [[1, 2]], dimensions=2).embeddings[0]) == 2
