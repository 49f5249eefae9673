"""The program and library ``llm``, unmodified, in its documented configuration of an endpoint like OpenAI's."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import llm
import openai
import pytest

from tests.gateway.gateway_process import gateway_process
from tests.gateway.scripts import call, script

REPORT = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "degrees": {"type": "integer"}},
    "required": ["city", "degrees"],
}
MODELS = {
    "greets": script("Grüß Gott 👋"),
    "calls": script(call("get_weather", '{"city": "Paris"}'), then="It is sunny."),
    "writes": script('{"city": "Paris", "degrees": 21}'),
    "breaks": script("half and half", fail_after=4, delay_ms=60),
}


@pytest.fixture(scope="module")
def user_path(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of its configuration, with one model for each of ``MODELS``."""
    folder = tmp_path_factory.mktemp("llm")
    with gateway_process("--engine", "fake") as gateway, pytest.MonkeyPatch.context() as patched:
        common = {"api_base": f"{gateway.url}/v1", "supports_tools": True, "supports_schema": True}
        models = [{"model_id": name, "model_name": model, **common} for name, model in MODELS.items()]
        # YAML has all of JSON.
        (folder / "extra-openai-models.yaml").write_text(json.dumps(models))
        patched.setenv("LLM_USER_PATH", str(folder))
        yield folder


@pytest.mark.usefixtures("user_path")
def test_an_answer_comes_whole_and_as_a_stream() -> None:
    model = llm.get_model("greets")
    assert model.prompt("Hello", stream=False).text() == "Grüß Gott 👋"
    assert "".join(model.prompt("Hello")) == "Grüß Gott 👋"


@pytest.mark.usefixtures("user_path")
def test_a_tool_is_run_and_its_result_answered() -> None:
    asked: list[str] = []

    def get_weather(city: str) -> str:
        """The weather."""
        asked.append(city)
        return "sunny"

    answer = llm.get_model("calls").chain("Hello", tools=[get_weather]).text()
    assert (asked, answer) == (["Paris"], "It is sunny.")


@pytest.mark.usefixtures("user_path")
def test_an_answer_is_an_object_under_a_schema() -> None:
    answer = llm.get_model("writes").prompt("Hello", schema=REPORT).text()
    assert json.loads(answer) == {"city": "Paris", "degrees": 21}


@pytest.mark.usefixtures("user_path")
def test_a_stream_that_fails_gives_its_text_and_raises() -> None:
    pieces: list[str] = []
    with pytest.raises(openai.APIError):
        pieces += iter(llm.get_model("breaks").prompt("Hello"))
    assert "".join(pieces) == "half"


@pytest.mark.usefixtures("user_path")
def test_its_command_answers() -> None:
    command = [str(Path(sys.executable).with_name("llm")), "--no-log", "-m", "greets", "Hello"]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=True)
    assert done.stdout == "Grüß Gott 👋\n"
