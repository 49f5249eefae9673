"""Every other method, what goes to the log, and what cannot be sent."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest

from mlx_sidecar_client import EngineStateParams, ExecutableNotFound, ProgressParams, Sidecar, SidecarLost, UnknownError
from mlx_sidecar_client.errors import from_wire
from mlx_sidecar_client.executable import find_command
from mlx_sidecar_client.parameters import (
    GenerateOptions,
    LoadOptions,
    PrefixOptions,
    RenderOptions,
    WarmOptions,
)
from mlx_sidecar_client.protocol.cache import CacheExportParams, CacheWarmParams
from mlx_sidecar_client.protocol.error_data import DETAILS
from mlx_sidecar_client.protocol.errors import (
    FrameTooLarge,
    InvalidParams,
    NestingTooDeep,
    RpcError,
    UnsupportedParameter,
)
from mlx_sidecar_client.protocol.generate import GenerateParams
from mlx_sidecar_client.protocol.operations import LoadParams, RenderParams
from mlx_sidecar_client.sync import SyncSidecar

from .support import COMMAND, FAKE, PATIENCE_S, fake, peer

MESSAGES = [{"role": "user", "content": "Hello"}]


@pytest.mark.anyio
async def test_every_method_has_a_typed_result(tmp_path: Path) -> None:
    async with Sidecar.spawn(**FAKE) as sidecar:
        assert (await sidecar.server()).protocol_version == 1
        assert (await sidecar.load("fake", pin=True)).pinned
        assert [card.model for card in (await sidecar.models()).models] == ["fake"]
        tokens = (await sidecar.tokenize("fake", "né", pieces=True)).tokens
        assert (await sidecar.detokenize("fake", tokens)).text == "né"
        assert (await sidecar.render("fake", MESSAGES, add_generation_prompt=False)).tokens
        assert (await sidecar.check_draft("fake", "fake?tokens=1")).compatible
        assert (await sidecar.cache_stats()).ram.used_bytes == 0
        assert (await sidecar.cache_clear()).ram_bytes == 0
        assert (await sidecar.unload("fake", force=True)).freed_bytes > 0
        assert (await sidecar.discover()).methods
        assert await sidecar.request("ping", {}) == {}
        with pytest.raises(UnsupportedParameter):
            await sidecar.cache_warm("fake", prompt="Hello")
        with pytest.raises(UnsupportedParameter):
            await sidecar.cache_export(tmp_path / "file", "fake", prompt="Hello")
        with pytest.raises(UnsupportedParameter):
            await sidecar.cache_import(tmp_path / "file", "fake")


@pytest.mark.anyio
async def test_loading_tells_how_far_it_is() -> None:
    reports: list[ProgressParams] = []
    async with Sidecar.spawn(**FAKE) as sidecar:
        await sidecar.load("fake?load_ms=20&load_steps=3", on_progress=reports.append)
    assert [report.done_bytes for report in reports] == sorted(report.done_bytes for report in reports)
    assert reports[-1].done_bytes == reports[-1].total_bytes


@pytest.mark.anyio
async def test_states_of_the_engine_are_told_and_a_callback_that_fails_does_no_harm() -> None:
    ready = anyio.Event()

    def on_state(state: EngineStateParams) -> None:
        if state.state == "ready":
            ready.set()
        raise ValueError("a mistake of the host")

    async with Sidecar.spawn(**fake(on_state)) as sidecar:
        with anyio.fail_after(PATIENCE_S):
            await ready.wait()
        await sidecar.ping()
        assert sidecar.engine is not None


@pytest.mark.anyio
async def test_the_log_of_the_sidecar_goes_to_logging(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    lines = [
        {"jsonrpc": "2.0", "method": "log", "params": {"level": "error", "message": "hot", "logger": "engine"}},
        {"jsonrpc": "2.0", "id": "ID", "result": {}},
    ]
    with caplog.at_level(logging.DEBUG, "mlx_sidecar"):
        async with Sidecar.spawn(**peer(tmp_path, *lines)) as sidecar:
            await sidecar.ping()
    assert ("mlx_sidecar.engine", logging.ERROR, "hot") in caplog.record_tuples


@pytest.mark.anyio
async def test_what_cannot_be_sent_is_refused_here_and_the_rest_goes_on(tmp_path: Path) -> None:
    deep: list[object] = []
    for _ in range(300):
        deep = [deep]
    async with Sidecar.spawn(**FAKE) as sidecar:
        with pytest.raises(NestingTooDeep):
            await sidecar.request("render", {"model": "fake", "messages": deep})
        with pytest.raises(ValueError, match="JSON compliant"):
            await sidecar.generate("fake", prompt="Hello", temperature=float("nan"))
        with pytest.raises(TypeError):
            await sidecar.request("ping", {"what": object()})
        with pytest.raises(InvalidParams, match="surrogate"):
            await sidecar.tokenize("fake", "\ud800")
        await sidecar.ping()
    async with Sidecar.spawn(**peer(tmp_path)) as small:
        with pytest.raises(FrameTooLarge):
            await small.tokenize("any", "x" * (1 << 20))


@pytest.mark.anyio
async def test_a_sidecar_that_does_not_come_up_says_why() -> None:
    with pytest.raises(SidecarLost, match="--no-such-option") as caught:
        async with Sidecar.spawn(command=COMMAND, options=["--no-such-option"]):
            pytest.fail("it came up")
    assert caught.value.exit_status == 2


@pytest.mark.parametrize("kind", [Sidecar, SyncSidecar])
def test_an_option_of_a_start_that_there_is_not_is_refused_by_its_name(kind: type[Sidecar] | type[SyncSidecar]) -> None:
    given: Any = {"command": COMMAND, "args": ["--cache-dir"]}
    with pytest.raises(TypeError, match="spawn has no option 'args'"):
        kind.spawn(**given)


def test_an_executable_that_is_not_there_is_named_with_what_to_install() -> None:
    with pytest.raises(ExecutableNotFound, match=r"command names '/no/such'.*docs/install\.md"):
        Sidecar.spawn(command="/no/such")
    with pytest.raises(ExecutableNotFound, match=r"MLX_SIDECAR names '/no/such'"):
        Sidecar.spawn(env={"MLX_SIDECAR": "/no/such", "PATH": "/usr/bin"})
    with pytest.raises(ExecutableNotFound, match="is not on the search path"):
        SyncSidecar.spawn(env={"PATH": ""})
    with pytest.raises(ValueError, match="no words"):
        Sidecar.spawn(command=[])


def test_the_executable_is_the_option_then_the_variable_then_the_search_path(tmp_path: Path) -> None:
    here = tmp_path / "mlx-sidecar"
    here.write_text("#!/bin/sh\n")
    here.chmod(0o755)
    env = {"MLX_SIDECAR": sys.executable, "PATH": str(tmp_path)}
    assert find_command(here, env) == [str(here)]
    assert find_command(["mlx-sidecar", "-v"], env) == [str(here), "-v"]
    assert find_command(None, env) == [sys.executable]
    assert find_command(None, {"PATH": str(tmp_path)}) == [str(here)]


@pytest.mark.parametrize("kind", DETAILS)
def test_every_kind_of_error_is_raised_as_its_class(kind: type[RpcError]) -> None:
    data = {"kind": kind.kind, "retryable": kind.retryable, "have": 9, "limit": 8}
    error = from_wire({"code": kind.code, "message": "so it is", "data": data})
    assert type(error) is kind
    assert (str(error), error.message, error.data) == ("so it is", "so it is", data)


@pytest.mark.parametrize(
    "strange",
    [
        {"code": -32099, "message": "m", "data": {"kind": "too_hot", "retryable": True, "celsius": 90}},
        {"code": -32099, "message": "m", "data": {"kind": "overloaded", "retryable": True}},
        {"code": -32000, "message": "m"},
        {"code": -32000, "message": "m", "data": "words"},
        {},
    ],
)
def test_an_error_that_is_not_known_keeps_what_it_said(strange: dict[str, object]) -> None:
    error = from_wire(strange)
    assert isinstance(error, UnknownError)
    assert error.code == strange.get("code", 0)
    data = strange.get("data")
    if isinstance(data, dict):
        assert error.data == data


def test_keyword_arguments_are_the_parameters_of_the_contract() -> None:
    def fields(model: type) -> set[str]:
        return set(model.model_fields)  # type: ignore[attr-defined]

    assert GenerateOptions.__annotations__.keys() == fields(GenerateParams) - {"model", "response_format", "stream"}
    assert LoadOptions.__annotations__.keys() == fields(LoadParams) - {"model", "progress"}
    assert PrefixOptions.__annotations__.keys() == fields(CacheExportParams) - {"model", "path"}
    assert WarmOptions.__annotations__.keys() == fields(CacheWarmParams) - {"model"}
    assert RenderOptions.__annotations__.keys() == fields(RenderParams) - {"model", "messages"}
