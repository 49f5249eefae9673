"""A gateway process and its request log: all is written at the end, appended to later, and can be sent again."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from mlx_sidecar.cli import main
from tests.gateway.endings import streaming_routes
from tests.gateway.gateway_process import GatewayProcess, gateway_process
from tests.gateway.support import ask, asking, chat

pytestmark = pytest.mark.anyio

ROUTES = streaming_routes()
TEXTS = {"chat": "Hi to you!", "reasoned": "It is all of men now.", "plain": "twenty letters here."}
KEY = "sk-c0ffee"
REFUSED = 1
USAGE = 2


def lines_of(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def port_of(gateway: GatewayProcess) -> int:
    return int(gateway.url.rpartition(":")[2])


@pytest.fixture(scope="module")
async def logged(anyio_backend: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, dict[str, str]]:
    """A log with a streamed and a whole answer of each route, the keys' file, and the paths by the id."""
    folder = tmp_path_factory.mktemp("log")
    (folder / "keys").write_text(f"ann {KEY}\n")
    options = ("--keys", str(folder / "keys"), "--request-log", str(folder / "log"), "--log-prompts")
    asked: dict[str, str] = {}
    with gateway_process("--engine", "fake", *options) as gateway:
        for spoken in ROUTES:
            for stream in (True, False):
                body = {**spoken.body(spoken.model()), "stream": stream}
                if not stream:
                    body.pop("stream_options", None)
                response = await ask(port_of(gateway), spoken.path, body, headers=[f"Authorization: Bearer {KEY}"])
                assert response.status == 200
                asked[response.headers["x-request-id"]] = spoken.path
        assert (await ask(port_of(gateway), "/v1/chat/completions", chat("fake"))).status == 401
    return folder / "log", folder / "keys", asked


async def test_each_request_has_a_line_when_the_gateway_has_ended(logged: tuple[Path, Path, dict[str, str]]) -> None:
    file, _, asked = logged
    *answered, refused = lines_of(file)
    assert {line["id"]: line["path"] for line in answered} == asked
    assert {line["key"] for line in answered} == {"ann"}
    assert (refused["status"], refused["outcome"], "key" in refused) == (401, "unauthorized", False)
    assert KEY not in file.read_text()
    assert (file.stat().st_mode & 0o777) == 0o600


async def test_a_logged_request_is_answered_again_with_its_text(
    logged: tuple[Path, Path, dict[str, str]], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Also to a gateway that was started with the same log, which it goes on with."""
    file, keys, asked = logged
    (tmp_path / "key").write_text(f"{KEY}\n")
    texts = {spoken.path: TEXTS[spoken.answer] for spoken in ROUTES}
    with gateway_process("--engine", "fake", "--keys", str(keys), "--request-log", str(file)) as gateway:
        for id_ in asked:
            words = ["log", str(file), "--replay", id_[:16], "--gateway", gateway.url, "--key-file"]
            with pytest.raises(SystemExit) as ended:
                main([*words, str(tmp_path / "key")])
            told = capsys.readouterr()
            assert ended.value.code == 0, told.err
            assert texts[asked[id_]] in told.out
            logged_id, now_id = told.err.split("\n")[1].split()[1:]
            assert logged_id == id_
            assert now_id not in asked
        with pytest.raises(SystemExit) as ended:
            main(["log", str(file), "--replay", next(iter(asked)), "--gateway", gateway.url])
        assert ended.value.code == REFUSED
        assert "a key is needed" in capsys.readouterr().err
        _, stats = gateway.get("/stats", Authorization=f"Bearer {KEY}")
        assert stats["request_log"]["dropped"] == 0
    again = lines_of(file)[len(asked) + 1 :]
    assert len(again) == len(asked) + 2  # with the one that had no key, and /stats
    assert not [line for line in again if "body" in line]


async def test_an_answer_that_the_end_of_the_gateway_cuts_off_is_in_the_log(tmp_path: Path) -> None:
    file = tmp_path / "log"
    options = ("--engine", "fake", "--request-log", str(file), "--drain-timeout-s", "0")
    with gateway_process(*options) as gateway:
        endless = chat("fake?tokens=1000000&context=2000000&delay_ms=20", max_tokens=10**6)
        async with asking(port_of(gateway), "/v1/chat/completions", endless) as request:
            await request.until(b"data:", 2)
            gateway.process.send_signal(signal.SIGTERM)
            assert (await request.response()).is_complete
    assert gateway.process.returncode == 0
    [line] = lines_of(file)
    assert (line["outcome"], line["status"], line["failed"]) == ("shutting_down", 200, True)


@pytest.mark.parametrize(
    ("options", "said", "status"),
    [
        (["--log-prompts"], "need --request-log", USAGE),
        (["--request-log-files", "0"], "need --request-log", USAGE),
        (["--request-log", "/"], "--request-log /: ", REFUSED),
        (["--objective", "urgent:gap=1"], "--objective urgent:gap=1: a priority is needed", USAGE),
    ],
)
def test_options_that_cannot_be_had_are_refused_at_the_start(
    capsys: pytest.CaptureFixture[str], options: list[str], said: str, status: int
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["gateway", "--listen", "127.0.0.1:0", *options])
    assert ended.value.code == status
    assert said in capsys.readouterr().err
