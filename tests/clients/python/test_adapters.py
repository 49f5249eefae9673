"""Adapters by the Python client: as a real engine has them, and again after the sidecar died."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from mlx_sidecar.pocket import PATH as POCKET
from mlx_sidecar_client import RpcError, Sidecar
from mlx_sidecar_client.protocol.errors import UnknownAdapter, UnsupportedParameter
from tests.support.adapters import shapes_of, write_adapter

from .support import COMMAND, FAKE, send

pytestmark = pytest.mark.anyio


async def test_an_adapter_outlives_the_sidecar_and_ends_when_it_is_unloaded(tmp_path: Path) -> None:
    path = write_adapter(tmp_path / "a", shapes_of(POCKET), size=0.3)
    async with Sidecar.spawn(command=COMMAND) as sidecar:
        card = await sidecar.adapter_load("pocket", "a", path)
        assert (card.adapter, card.resident) == ("a", True)

        async def tokens(adapter: str | None) -> list[int] | None:
            asked = sidecar.generate("pocket", prompt="Once", max_tokens=12, ignore_eos=True, adapter=adapter)
            return (await asked.whole()).tokens

        adapted, plain = await tokens("a"), await tokens(None)
        assert adapted != plain
        await send(sidecar, signal.SIGKILL)
        assert await tokens("a") == adapted
        assert [each.digest for each in (await sidecar.adapters("pocket")).adapters] == [card.digest]
        assert (await sidecar.adapter_unload("pocket", "a")).freed_bytes == card.memory_bytes
        with pytest.raises(UnknownAdapter):
            await tokens("a")


async def test_what_takes_no_adapters_says_so() -> None:
    async with Sidecar.spawn(**FAKE) as sidecar:
        with pytest.raises(UnsupportedParameter) as caught:
            await sidecar.adapter_load("fake", "a", "somewhere")
        assert caught.value.details["name"] == "adapter"
        with pytest.raises(RpcError):
            await sidecar.generate("fake", prompt="x", adapter="a").whole()
        assert (await sidecar.adapters()).adapters == []
