"""The examples for Node and VS Code, run as they are, with the client installed beside copies of them."""

from __future__ import annotations

import http.client
import json
import shutil
import signal
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.clients.node_client import (
    PATIENCE_S,
    ROOT,
    environment,
    executable,
    install,
    need_built,
    node,
    run,
)

EXAMPLES = ROOT / "examples"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    node()
    need_built()
    directory = tmp_path_factory.mktemp("examples")
    for name in ("data", "node", "vscode"):
        shutil.copytree(EXAMPLES / name, directory / name, ignore=shutil.ignore_patterns("node_modules"))
    install(directory)
    executable(directory)
    return directory


def settings(place: Path, **more: str) -> dict[str, str]:
    return {"MLX_SIDECAR": str(place / "mlx-sidecar"), **more}


def fake(place: Path, model: str) -> dict[str, str]:
    return settings(place, SIDECAR_ARGS="--engine fake", MODEL=model)


# A host.


def test_the_host_is_short() -> None:
    assert len((EXAMPLES / "node" / "host.mjs").read_text().splitlines()) <= 30


def test_the_host_prints_what_pocket_says(place: Path) -> None:
    said = run(node(), "host.mjs", "What is mlx-sidecar?", cwd=place / "node", **settings(place))
    assert "mlx-sidecar" in said
    assert "(stop, " in said


def test_the_host_tells_of_an_error(place: Path) -> None:
    done = subprocess.run(
        [node(), "host.mjs"],
        cwd=place / "node",
        env=environment(**fake(place, "fake?fail_load=model_not_found")),
        capture_output=True,
        encoding="utf-8",
        timeout=PATIENCE_S,
        check=False,
    )
    assert "model_not_found: " in done.stderr


def test_an_interrupt_ends_the_answer_of_the_host(place: Path) -> None:
    model = "fake?tokens=100000&delay_ms=1"
    with subprocess.Popen(
        [node(), "host.mjs"], cwd=place / "node", env=environment(**fake(place, model)), stdout=subprocess.PIPE
    ) as host:
        assert host.stdout
        host.stdout.read(1)
        host.send_signal(signal.SIGINT)
        rest = host.stdout.read()
        assert host.wait(PATIENCE_S) == 0
    assert b"(stopped)" in rest


# An agent.


def test_the_agent_reads_the_file_adds_up_and_answers_with_the_sum(place: Path) -> None:
    said = run(node(), "agent.mjs", cwd=place / "node", **settings(place))
    assert 'read_file({"name": "prices.csv"}):\nthing,price\napples,3.20' in said
    assert 'add_up({"name": "prices.csv", "column": "price"}):\n19.5\n' in said
    assert said.splitlines()[-1] in ("Together they cost 19.5.", "They cost 19.5 together.")


def test_the_search_prints_the_nearest_paragraph_first(place: Path) -> None:
    paragraph = "The chain wants oil after rain. The brakes were changed in spring."
    words = ["search.mjs", "fake?dimensions=32", paragraph]
    first, *others = run(node(), *words, cwd=place / "node", **fake(place, "")).splitlines()
    assert first == f"1.00 bicycle.md: {paragraph}"
    assert len(others) == 2


# A server.


@contextmanager
def server(place: Path, model: str) -> Iterator[int]:
    """The port it listens on."""
    with subprocess.Popen(
        [node(), "http-server.mjs"],
        cwd=place / "node",
        env=environment(**fake(place, model), PORT="0"),
        stdout=subprocess.PIPE,
        encoding="utf-8",
    ) as process:
        try:
            assert process.stdout
            yield int(process.stdout.readline().split(":")[2].split("/")[0])
            process.terminate()
            assert process.wait(PATIENCE_S) == 0
        finally:
            process.kill()


@contextmanager
def ask(port: int, path: str) -> Iterator[http.client.HTTPResponse]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
    with closing(connection):
        connection.request("GET", path)
        with connection.getresponse() as response:
            yield response


def events(response: http.client.HTTPResponse) -> Iterator[tuple[str, Any]]:
    """The server-sent events of a response: names and data."""
    while line := response.readline():
        name = line.decode().removeprefix("event: ").strip()
        yield name, json.loads(response.readline().decode().removeprefix("data: "))
        assert response.readline() == b"\n"


def answers(port: int, prompt: str) -> list[tuple[str, Any]]:
    with ask(port, f"/?prompt={quote(prompt)}") as response:
        assert response.getheader("content-type") == "text/event-stream"
        return list(events(response))


def test_the_server_streams_an_answer(place: Path) -> None:
    with server(place, "fake?echo=1") as port:
        *deltas, (last, data) = answers(port, "Grüße, 世界")
    assert {name for name, _ in deltas} == {"delta"}
    assert "Grüße, 世界" in "".join(delta["text"] for _, delta in deltas)
    assert (last, data["finish_reason"]) == ("end", "stop")


def test_the_server_answers_many_at_once(place: Path) -> None:
    with server(place, "fake?tokens=50&delay_ms=1") as port, ThreadPoolExecutor(8) as threads:
        ends = [answer[-1] for answer in threads.map(lambda number: answers(port, str(number)), range(8))]
    assert [(name, data["finish_reason"]) for name, data in ends] == [("end", "stop")] * 8


def test_whoever_closes_the_connection_cancels(place: Path) -> None:
    with server(place, "fake?tokens=100000&delay_ms=1") as port:
        with ask(port, "/?prompt=x") as response:
            next(events(response))
        with ask(port, "/?prompt=y") as response:  # by the time this one is answered the other's end has been seen
            next(events(response))
    asked = [json.loads(line) for line in (place / "asked").read_text().splitlines()]
    first = next(frame["id"] for frame in asked if frame["method"] == "generate")
    names = [frame["method"] for frame in asked]
    before_the_end = asked[: names.index("shutdown")]
    cancelled = [frame["params"]["id"] for frame in before_the_end if frame["method"] == "$/cancelRequest"]
    assert first in cancelled


def test_the_server_tells_of_an_error(place: Path) -> None:
    with server(place, "fake?fail_after=3") as port:
        name, data = answers(port, "x")[-1]
    assert (name, data["kind"]) == ("error", "internal_error")


def test_the_server_refuses_what_is_no_question(place: Path) -> None:
    with server(place, "fake") as port, ask(port, "/favicon.ico") as response:
        assert response.status == 400


# An extension of VS Code.


def test_the_logic_of_the_extension_runs_without_an_editor(place: Path) -> None:
    run(node(), "--test", "--test-timeout", "120000", "test/writer.test.mjs", cwd=place / "vscode")


def test_the_extension_itself_is_a_script_that_node_can_read(place: Path) -> None:
    run(node(), "--check", "extension.cjs", cwd=place / "vscode")
