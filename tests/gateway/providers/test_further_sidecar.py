"""A further sidecar, which is a real process, and what its death does to its answers."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import anyio
import pytest

from mlx_sidecar.cli import main
from mlx_sidecar_client import SidecarLost
from mlx_sidecar_gateway.providers.provider import SidecarEngine
from mlx_sidecar_gateway.providers.table_file import read_table
from mlx_sidecar_gateway.server import CannotStart, serve
from mlx_sidecar_gateway.settings import Settings
from mlx_sidecar_gateway.surfaces.surface import Offer
from tests.gateway.endings import read_chat
from tests.gateway.in_memory import InMemory, MemorySidecar
from tests.gateway.providers.gateways import providers_of, routed
from tests.gateway.providers.upstreams import TEXT, upstream, whole
from tests.gateway.scripts import script
from tests.gateway.support import HELLO, PATIENCE_S

pytestmark = pytest.mark.anyio

FAST, SLOW = script("from there"), script("from there, slowly", delay_ms=200)
TABLE = f"""
providers:
  second: {{kind: sidecar, options: [--engine, fake]}}
  far: {{ENTRY}}
models:
  fast: [{{provider: second, model: '{FAST}'}}, {{provider: far, model: big}}]
  slow: [{{provider: second, model: '{SLOW}'}}, {{provider: far, model: big}}]
retry: {{rounds: 1}}
"""


async def kill_second(memory: InMemory) -> None:
    engine = providers_of(memory).providers["second"].engine
    assert isinstance(engine, SidecarEngine)
    os.kill(await engine.sidecar().process_id(), signal.SIGKILL)


async def text_of(memory: InMemory, model: str) -> str:
    visit = await memory.visit("/chat/completions", {"model": model, "messages": HELLO}).run()
    assert visit.status == 200, visit.body
    return str(json.loads(visit.body)["choices"][0]["message"]["content"])


async def test_its_death_ends_a_stream_that_began_with_one_error_and_no_other_request(sidecar: MemorySidecar) -> None:
    async with upstream("openai", whole) as far, routed(sidecar, TABLE.replace("ENTRY", far.entry)) as memory:
        assert await text_of(memory, "fast") == "from there"
        visit = memory.visit("/chat/completions", {"model": "slow", "messages": HELLO, "stream": True})
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(visit.run)
            with anyio.fail_after(PATIENCE_S):
                while b'content":"' not in visit.body:
                    await visit.has_heard.wait()
                    await anyio.sleep(0.01)
            await kill_second(memory)
        ended = read_chat(visit.body)
        assert ended.error == "engine_lost"
        assert "from there, slowly".startswith(ended.text)
        assert far.asked == []
        # Another process has taken its place.
        assert await text_of(memory, "fast") == "from there"
        figures = memory.gateway.figures()["providers"]
        assert (figures["second"]["failures"], figures["far"]["requests"]) == (1, 0)


async def test_one_that_is_gone_for_good_leads_to_the_next_provider(
    sidecar: MemorySidecar, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with upstream("openai", whole) as far, routed(sidecar, TABLE.replace("ENTRY", far.entry)) as memory:
        engine = providers_of(memory).providers["second"].engine
        assert isinstance(engine, SidecarEngine)

        async def gone() -> None:
            raise SidecarLost("it was given up")

        monkeypatch.setattr(engine.sidecar(), "_connection", gone)
        assert await text_of(memory, "fast") == TEXT
        assert memory.gateway.figures()["providers"]["second"]["failures"] == 1


# The command.


def test_a_file_that_does_not_fit_is_told_by_its_path(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "providers.yaml"
    file.write_text("models: {fast: [{provider: far, model: m}]}")
    for path, because in (
        (file, "models.fast[0].provider: there is no 'far', but local"),
        (tmp_path / "no", "No such"),
    ):
        with pytest.raises(SystemExit):
            main(["gateway", "--providers", str(path)])
        told = capsys.readouterr().err
        assert told.startswith(f"error: --providers {path}: ")
        assert because in told


def test_a_name_that_the_command_line_has_too_is_refused(tmp_path: Path) -> None:
    table = read_table("models: {m: [{provider: local, model: pocket}]}")
    with pytest.raises(CannotStart, match=r"models\.m: --model has this name, too"):
        serve(Settings(models=(Offer("m", "pocket"),), providers=table))
