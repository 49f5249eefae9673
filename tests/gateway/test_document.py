"""docs/gateway.md names every parameter and every kind of error."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mlx_sidecar.cli.arguments import command_line
from mlx_sidecar_gateway.core.cache_explanation import HEADER
from mlx_sidecar_gateway.core.faults import STATUS
from mlx_sidecar_gateway.core.headers import NAMES
from mlx_sidecar_gateway.core.keys import WORDS
from mlx_sidecar_gateway.surfaces.anthropic.parameters import COUNT_TOKENS, MESSAGES
from mlx_sidecar_gateway.surfaces.ollama.parameters import CHAT, GENERATE
from mlx_sidecar_gateway.surfaces.openai import chat, completions
from mlx_sidecar_gateway.surfaces.openai.responses.parameters import LEFT_ASIDE, REFUSED_TOOLS, RESPONSES
from mlx_sidecar_gateway.surfaces.parameters import Parameters
from mlx_sidecar_gateway.surfaces.tokens import DETOKENIZE, TOKENIZE

PAGE = (Path(__file__).parents[2] / "docs" / "gateway.md").read_text()


def section(begin: str, end: str) -> set[str]:
    """The names in code spans between two texts of the page."""
    return set(re.findall(r"`([\w.]+)`", PAGE.partition(begin)[2].partition(end)[0]))


@pytest.mark.parametrize("parameters", [chat.PARAMETERS, completions.PARAMETERS])
def test_it_lists_each_parameter_where_it_belongs(parameters: Parameters) -> None:
    assert parameters.honoured <= section("**Honoured**", "- Without")
    assert parameters.harmless.keys() <= section("**Harmless**", "**Refused**")
    assert parameters.refused.keys() <= section("**Refused**", "## Errors")


@pytest.mark.parametrize(
    ("begin", "end", "parameters"),
    [
        ("## Responses", "## Anthropic", RESPONSES),
        ("## Anthropic", "## Ollama", MESSAGES),
        ("## Anthropic", "## Ollama", COUNT_TOKENS),
        ("## Ollama", "## Tokens", CHAT),
        ("## Ollama", "## Tokens", GENERATE),
        ("## Tokens", "## Who may ask", TOKENIZE),
        ("## Tokens", "## Who may ask", DETOKENIZE),
    ],
)
def test_it_lists_the_parameters_of_the_other_surfaces(begin: str, end: str, parameters: Parameters) -> None:
    harmless, refused = "Harmless:", "Refused by name:"
    text = PAGE.partition(f"\n{begin}\n")[2].partition(f"\n{end}\n")[0]
    assert parameters.honoured <= set(re.findall(r"`([\w.]+)`", text.partition(harmless)[0]))
    assert parameters.harmless.keys() <= set(
        re.findall(r"`([\w.]+)`", text.partition(harmless)[2].partition(refused)[0])
    )
    assert parameters.refused.keys() <= set(re.findall(r"`([\w.]+)`", text.partition(refused)[2]))


def test_it_lists_the_tools_that_are_left_aside_and_those_that_are_refused() -> None:
    text = PAGE.partition("**Tools that are no functions.**")[2].partition("Harmless:")[0]
    aside, _, refused = text.partition("Where there is no function")
    # Versions of one tool, which end in a date, are named once.
    assert {re.sub(r"(_\d+)+$", "", name) for name in LEFT_ASIDE} <= set(re.findall(r"`([\w.]+)`", aside))
    assert REFUSED_TOOLS.keys() <= set(re.findall(r"`([\w.]+)`", refused))


def test_it_tells_the_status_of_each_kind() -> None:
    rows = re.findall(r"^\| ([\d, ]+) \| (.*) \|$", PAGE, re.MULTILINE)
    # The kinds of a row with several statuses stand in their order, divided by semicolons.
    told = {
        kind: int(status)
        for statuses, kinds in rows
        for status, part in zip(statuses.split(", "), kinds.split("; "), strict=True)
        for kind in re.findall(r"`(\w+)`", part)
    }
    assert STATUS.items() <= told.items()


def test_it_names_each_word_of_the_file_of_keys_and_each_header() -> None:
    assert all(f"`{word}=" in PAGE for word in WORDS)
    assert all(f"`{header}" in PAGE for header in (*NAMES.values(), HEADER))


def test_it_names_each_option_of_the_command() -> None:
    parser = command_line(["gateway"]).commands["gateway"]
    shared = command_line(["chat"]).commands["chat"]._option_string_actions
    own = [option for option in parser._option_string_actions if option.startswith("--") and option not in shared]
    assert own
    assert [option for option in own if f"`{option}" not in PAGE] == []
