"""Sessions through the Python client: turns that stream, branches, files, and the end of the sidecar that had one."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlx_sidecar_client import RpcError, Session, Sidecar

from .support import FAKE

pytestmark = pytest.mark.anyio
MODEL = "fake?text=Yes."


def said(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


async def test_a_chat_is_streamed_forked_rolled_back_written_and_read(tmp_path: Path) -> None:
    async with Sidecar.spawn(**FAKE) as sidecar:
        session = await Session.open(sidecar, MODEL, messages=[{"role": "system", "content": "Be brief."}])
        stream = session.generate(said("One?"))
        text = "".join([delta.text async for delta in stream])
        first = stream.result
        assert (text, first.rendered_differs) == ("Yes.", False)
        second = await session.generate(said("Two?"), max_tokens=2)
        fork = await session.fork(first.turn)
        other = await fork.generate(said("Two?"))
        assert other.usage.prompt_tokens == second.usage.prompt_tokens
        assert first.turn is not None
        assert await session.roll_back(first.turn, dry_run=True) == [second.turn]
        assert await session.roll_back(first.turn) == [second.turn]
        await session.write(tmp_path / "chat")
        read = await Session.read(sidecar, tmp_path / "chat")
        assert read.model == MODEL
        assert [turn.turn for turn in (await read.get()).turns][1:] == [first.turn]
        assert (await read.generate(said("More?"), at=first.turn, render="template")).turn
        await read.close()
        with pytest.raises(RpcError) as gone:
            await read.get()
        assert gone.value.kind == "unknown_session"
