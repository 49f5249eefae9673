"""The plugin for ``llm``, in the real program and library, over the fake engine."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import llm
import llm.plugins
import pytest
from click.testing import CliRunner, Result
from llm.parts import ReasoningPart

import llm_mlx_sidecar
from llm_mlx_sidecar import names, running
from llm_mlx_sidecar.commands import commands
from llm_mlx_sidecar.messages import parameters_of
from mlx_sidecar_client import RpcError
from tests.support.listening_pair import ListeningPair
from tests.support.sidecar import ROOT

PLUGIN = ROOT / "clients" / "llm"
PATIENCE_S = 120.0
ADA = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
CALL = '<tool_call>\n{"name": "add", "arguments": {"a": 2, "b": 3}}\n</tool_call>'


def says(text: str, **options: str | int) -> str:
    more = "".join(f"&{name}={quote(str(value))}" for name, value in options.items())
    return f"fake?text={quote(text)}{more}"


MODELS = {
    "short": says("one two three"),
    "thinks": says("<think>Let me see.</think>Yes."),
    "agent": says(CALL, then="It is 5."),
    "writes": says('{"name": "Ada"}'),
    "breaks": says("half and half", fail_after=4),
    "endless": "fake?tokens=100000&delay_ms=1&context=200000",
    "echo": "fake?echo=1",
}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pairs: ListeningPair) -> Iterator[Path]:
    """The folder of a user, whose ``mlx-sidecar`` has the fake engine and whose models are those above."""
    script = tmp_path / "mlx-sidecar"
    script.write_text(f'#!/bin/sh\nexec {" ".join(pairs.command)} "$@" --engine fake\n')
    script.chmod(0o755)
    monkeypatch.setenv("LLM_USER_PATH", str(tmp_path))
    monkeypatch.setenv("MLX_SIDECAR", str(script))
    names.write(names.Names([*MODELS.values(), names.POCKET], ["fake?dimensions=4"]))
    llm.plugins.load_plugins()
    llm.plugins.pm.register(llm_mlx_sidecar)
    yield tmp_path
    llm.plugins.pm.unregister(llm_mlx_sidecar)
    running.close()


def model(name: str) -> llm.Model:
    return llm.get_model(f"mlx-sidecar/{MODELS[name]}")


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@pytest.mark.usefixtures("home")
def test_an_answer_streams_and_comes_in_one_piece() -> None:
    streamed = model("short").prompt("Hello", system="Be short.")
    assert "".join(streamed) == "one two three"
    whole = llm.get_model(MODELS["short"]).prompt("Hello", stream=False)
    assert whole.text() == "one two three"
    usages = [response.usage() for response in (streamed, whole)]
    assert [usage.output for usage in usages] == [13, 13]
    assert usages[0].input is not None


@pytest.mark.usefixtures("home")
def test_options_are_the_protocols_and_wrong_ones_are_refused_by_name() -> None:
    answer = model("short").prompt("Hello", max_tokens=5, seed=7, temperature=0.5, stop="x")
    assert answer.text() == "one t"
    assert answer.response_json == {"finish_reason": "length", "seed": 7}
    with pytest.raises(RpcError, match="top_p"):
        model("short").prompt("Hello", top_p=7.0).text()


@pytest.mark.usefixtures("home")
def test_texts_never_become_control_tokens_unless_an_option_says_so() -> None:
    answer = model("short").prompt("Hello")
    assert parameters_of(answer.prompt)["escape_special"] is True
    assert answer.text() == "one two three"
    assert parameters_of(model("short").prompt("Hello", escape_special=False).prompt)["escape_special"] is False


@pytest.mark.usefixtures("home")
def test_a_conversation_sends_what_was_said_before() -> None:
    conversation = model("echo").conversation()
    conversation.prompt("first", system="Be short.").text()
    second = conversation.prompt("second", system="Be short.").text()
    assert second.count("Be short.") == 2, "once as the system message, and once in the echo of the first prompt"
    assert second.index("first") < second.index("second")


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize("stream", [True, False])
def test_a_tool_is_run_and_its_result_answered(stream: bool) -> None:
    answer = model("agent").chain("What is 2 + 3?", tools=[add], stream=stream)
    assert answer.text() == "It is 5."
    first, second = answer._responses
    [call] = first.tool_calls()
    assert (call.name, call.arguments) == ("add", {"a": 2, "b": 3})
    [result] = second.prompt.tool_results
    assert (result.output, result.tool_call_id) == ("5", call.tool_call_id)


@pytest.mark.usefixtures("home")
def test_an_answer_has_its_schema() -> None:
    assert json.loads(model("writes").prompt("Who?", schema=ADA).text()) == {"name": "Ada"}


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize("stream", [True, False])
def test_reasoning_is_a_part_of_its_own_and_can_be_hidden(stream: bool) -> None:
    answer = model("thinks").prompt("Really?", stream=stream)
    assert answer.text() == "Yes."
    parts = [part for message in answer.messages() for part in message.parts]
    assert [part.text for part in parts if isinstance(part, ReasoningPart)] == ["Let me see."]
    hidden = model("thinks").prompt("Really?", stream=stream, hide_reasoning=True)
    assert hidden.text() == "Yes."
    assert not any(isinstance(part, ReasoningPart) for message in hidden.messages() for part in message.parts)


@pytest.mark.usefixtures("home")
def test_a_stream_that_breaks_off_gives_its_text_and_raises() -> None:
    pieces: list[str] = []
    with pytest.raises(RpcError, match="the script says so"):
        pieces += iter(model("breaks").prompt("Hello"))
    assert "".join(pieces) == "half"


@pytest.mark.usefixtures("home")
def test_a_stream_that_is_left_is_cancelled() -> None:
    response = model("endless").prompt("Hello")
    pieces = iter(response)
    next(pieces)
    del pieces, response
    running.sidecar().unload(MODELS["endless"])  # refused as in use if it ran on


@pytest.mark.usefixtures("home")
def test_an_event_loop_has_the_same_and_a_cancelled_task_cancels() -> None:
    async def run() -> None:
        asked = llm.get_async_model(f"mlx-sidecar/{MODELS['agent']}")
        assert await asked.chain("What is 2 + 3?", tools=[add]).text() == "It is 5."
        whole = llm.get_async_model(f"mlx-sidecar/{MODELS['thinks']}").prompt("Really?", stream=False)
        assert await whole.text() == "Yes."
        endless = llm.get_async_model(f"mlx-sidecar/{MODELS['endless']}").prompt("Hello")
        begun = asyncio.Event()

        async def read() -> None:
            async for _ in endless:
                begun.set()

        task = asyncio.ensure_future(read())
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())
    running.sidecar().unload(MODELS["endless"])


@pytest.mark.usefixtures("home")
def test_texts_become_vectors() -> None:
    embedding = llm.get_embedding_model("mlx-sidecar/fake?dimensions=4")
    first, second, other = embedding.embed_multi(["a b", "b a", "c"])
    assert first == second != other
    assert len(embedding.embed("a")) == 4


@pytest.mark.usefixtures("home")
def test_pictures_are_refused() -> None:
    picture = llm.Attachment(type="image/png", content=b"\x89PNG")
    with pytest.raises(ValueError, match="does not support attachments"):
        model("short").prompt("What is this?", attachments=[picture]).text()


@pytest.mark.parametrize("text", ["{", "[]", '{"chat": "x"}', '{"chat": [1]}', '{"chats": []}'])
def test_a_file_of_names_that_is_something_else_is_said_with_its_path(home: Path, text: str) -> None:
    names.path().write_text(text)
    with pytest.raises(llm.ModelError, match=str(home)):
        names.read()


# The program, with the plugin installed as its wheel is.


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("installed")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-deps"]
    subprocess.run([*pip, "--no-build-isolation", "--target", str(folder), str(PLUGIN)], check=True, timeout=PATIENCE_S)
    [information] = folder.glob("llm_mlx_sidecar-*.dist-info")
    assert (information / "licenses" / "LICENSE").is_file()
    assert "# mlx-sidecar for llm" in (information / "METADATA").read_text()
    return folder


def test_the_program_finds_the_plugin_and_answers(home: Path, installed: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "llm", "--no-log", "-m", MODELS["short"], "Hello"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(installed), str(ROOT / "clients" / "python")])},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=PATIENCE_S,
        check=True,
    )
    assert done.stdout == "one two three\n"


@pytest.mark.usefixtures("home")
def test_models_are_added_listed_and_removed() -> None:
    def run(*words: str) -> Result:
        return CliRunner().invoke(commands, words)

    assert run("add", "hub/one").output == "mlx-sidecar/hub/one\n"
    assert run("add", "--embedding", "hub/two").output == "mlx-sidecar/hub/two\n"
    assert "hub/one" in names.read().chat
    assert "hub/two" in names.read().embedding
    assert "there already" in run("add", "hub/one").output
    assert "* pocket" in run("list").output
    assert run("remove", "hub/one").exit_code == 0
    assert "hub/one is not there; there are: " in run("remove", "hub/one").output
