"""Hostile names and labels: each is answered with a short typed error, and the connection goes on."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.host import Frame
from tests.support.pair import Pair, pair


def named(error: Frame) -> Any:
    """The field that is at fault."""
    assert error["data"]["kind"] == "invalid_params", error
    return error["data"]["errors"][0]["loc"]


def serves(process: Pair) -> None:
    assert process.call("ping") == {}
    assert process.call("tokenize", {"model": "fake", "text": "a"})["count"] == 1


@pytest.mark.parametrize(
    "name", ["", "a\0b", "..", "../x", "a/../b", "/tmp/..", "a\\..\\b", "x" * 4097, "x" * 1_000_000], ids=range(9)
)
def test_a_name_that_no_model_has_is_refused_as_a_name(name: str) -> None:
    with pair() as process:
        for method, params in (
            ("load", {}),
            ("unload", {}),
            ("generate", {"prompt": "x"}),
            ("tokenize", {"text": "x"}),
        ):
            error = process.error(method, {"model": name, **params})
            assert named(error) == ["model"]
            assert len(json.dumps(error)) < 1000
        assert named(process.error("load", {"model": "fake", "adapter": name})) == ["adapter"]
        serves(process)


@pytest.mark.parametrize(
    ("method", "params", "loc"),
    [
        ("generate", {"model": "fake", "prompt": "x", "stream": "s" * 1025}, ["stream"]),
        ("stream/cancel", {"stream": "s" * 1_000_000}, ["stream"]),
        ("load", {"model": "fake", "progress": "p" * 1025}, ["progress"]),
        ("initialize", {"protocol_version": 1, "client": {"name": "n" * 1025}}, ["client", "name"]),
        ("initialize", {"protocol_version": 1, "client": {"name": "n"}, "process_id": 2**31}, ["process_id"]),
        ("generate", {"model": "fake", "prompt": "x", "stop": ["s" * 4097]}, ["stop", 0]),
    ],
)
def test_what_would_be_kept_for_long_is_short(method: str, params: Frame, loc: list[Any]) -> None:
    with pair() as process:
        error = process.error(method, params)
        assert named(error) == loc
        assert len(json.dumps(error)) < 1000
        serves(process)


def test_a_million_characters_of_nonsense_are_not_sent_back() -> None:
    with pair() as process:
        error = process.error("generate", {"model": "fake", "prompt": "x", "y" * 1_000_000: 1})
        assert len(json.dumps(error)) < 5000
        error = process.error("tokenize", {"model": "fake", "text": ["z" * 1_000_000] * 20})
        assert len(json.dumps(error)) < 5000
        serves(process)
