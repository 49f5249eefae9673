"""Languages with one kind of number, or one kind of empty table, are understood; nothing else is converted."""

from __future__ import annotations

from typing import Any

import pytest

from mlx_sidecar_protocol.errors import InvalidParams
from mlx_sidecar_protocol.generate import GenerateParams
from mlx_sidecar_protocol.operations import DetokenizeParams, InitializeParams

GENERATE = {"model": "pocket", "prompt": "Hello"}


@pytest.mark.parametrize(
    ("field", "written", "meant"),
    [
        ("max_tokens", 8.0, 8),
        ("stream", 1.0, 1),
        ("stop_tokens", [5, 6.0, 7.0], [5, 6, 7]),
        ("stop_tokens", {}, []),
        ("stop", {}, []),
        ("logit_bias", [], {}),
    ],
)
def test_what_is_written_in_the_other_way_is_what_it_means(field: str, written: Any, meant: Any) -> None:
    assert getattr(GenerateParams.parse({**GENERATE, field: written}), field) == meant
    assert type(getattr(GenerateParams.parse({**GENERATE, field: written}), field)) is type(meant)


def test_all_of_a_message_may_be_written_so_and_is_not_changed_itself() -> None:
    params = {"protocol_version": 1.0, "client": {"name": "host"}, "process_id": 77.0, "capabilities": []}
    before = {**params}
    read = InitializeParams.parse(params)
    assert (read.protocol_version, read.process_id, read.capabilities) == (1, 77, {})
    assert params == before


def test_by_position_too() -> None:
    assert DetokenizeParams.parse(["pocket", [65.0, 66]]).tokens == [65, 66]


def test_free_content_stays_as_it_came() -> None:
    content = {"version": 1.0, "none": [], "nothing": {}}
    params = {"model": "pocket", "messages": [{"role": "user", "content": "x"}], "template_args": content}
    read = GenerateParams.parse({**params, "max_tokens": 8.0})
    assert repr(read.template_args) == repr(content)


@pytest.mark.parametrize(
    ("field", "bad"),
    [("max_tokens", 8.5), ("max_tokens", "8"), ("max_tokens", 1e308 * 10), ("stop", {"a": 1}), ("logit_bias", [0])],
)
def test_what_could_mean_something_else_is_refused(field: str, bad: Any) -> None:
    with pytest.raises(InvalidParams) as caught:
        GenerateParams.parse({**GENERATE, field: bad})
    assert caught.value.data["errors"][0]["loc"][0] == field


def test_faults_of_other_kinds_are_still_named() -> None:
    with pytest.raises(InvalidParams) as caught:
        GenerateParams.parse({**GENERATE, "max_tokens": 8.0, "temperature": -1})
    assert [error["loc"] for error in caught.value.data["errors"]] == [["temperature"]]


def test_a_long_list_is_mended_at_once() -> None:
    assert DetokenizeParams.parse({"model": "pocket", "tokens": [1.0] * 100_000}).tokens == [1] * 100_000
