"""The values of a message are counted before it is parsed, rightly wherever strings end and slices begin."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlx_sidecar_protocol import extent
from mlx_sidecar_protocol.envelope import Invalid, Request, encode_error, parse
from mlx_sidecar_protocol.extent import find_excess
from mlx_sidecar_protocol.limits import Limits

NASTY = st.text(st.sampled_from('"\\,:[]{}aé\n'), max_size=12)
VALUES = st.recursive(
    st.integers() | NASTY | st.none(),
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(NASTY, inner, max_size=6),
    max_leaves=30,
)


def counted(value: Any) -> tuple[int, int, int]:
    """Return the commas, colons and opening brackets of a JSON text of ``value``."""
    if not isinstance(value, list | dict):
        return 0, 0, 0
    parts = list(value.values()) if isinstance(value, dict) else value
    inner = [counted(part) for part in parts]
    commas, colons, brackets = (sum(column) for column in zip((0, 0, 0), *inner, strict=True))
    return commas + max(0, len(parts) - 1), colons + (len(parts) if isinstance(value, dict) else 0), brackets + 1


def limits(values: int, members: int, containers: int) -> Limits:
    return Limits(values=max(1, values), members=max(1, members), containers=max(1, containers))


@given(st.dictionaries(NASTY, VALUES, max_size=6), st.booleans(), st.integers(2, 9), st.data())
def test_a_text_is_refused_when_it_holds_one_more_than_a_limit_and_not_before(
    value: dict[str, Any], ascii_only: bool, slice_bytes: int, data: st.DataObject
) -> None:
    frame = json.dumps(value, ensure_ascii=ascii_only, separators=(",", ":")).encode()
    counts = counted(value)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(extent, "_SLICE", slice_bytes)
        assert find_excess(frame, limits(*counts)) is None
        which = data.draw(st.integers(0, 2))
        if counts[which] > 1:  # no limit is below 1
            less = tuple(count - (at == which) for at, count in enumerate(counts))
            found = find_excess(frame, limits(*less))
            assert found is not None
            assert found[:2] == (("values", "members", "containers")[which], less[which])


@given(st.binary(max_size=80), st.integers(2, 9))
def test_any_bytes_are_counted_to_their_end(frame: bytes, slice_bytes: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(extent, "_SLICE", slice_bytes)
        find_excess(frame, Limits())


IDS = ["7", '"a"', '"q\\"uote"', "1.50", "-3", '""']


@pytest.mark.parametrize("written", IDS)
@pytest.mark.parametrize("first", [True, False], ids=["before", "behind"])
def test_a_message_with_too_many_values_is_answered_under_its_id(written: str, first: bool) -> None:
    params = '"params":{"id":99,"tokens":[' + ",".join(["5"] * 2000) + "]}"
    parts = [f'"id" : {written}', params] if first else [params, f'"id" : {written}']
    frame = ('{"jsonrpc":"2.0","method":"generate",' + ",".join(parts) + "}").encode()
    refused = parse(frame, Limits(values=1000))
    assert isinstance(refused, Invalid)
    assert refused.error.data == {"kind": "too_many_values", "retryable": False, "what": "values", "limit": 1000}
    assert json.loads(encode_error(refused.id, refused.error))["id"] == json.loads(written)
    assert isinstance(parse(frame, Limits(values=3000)), Request)


def test_of_a_batch_with_too_many_values_no_id_is_told() -> None:
    frame = b'[{"jsonrpc":"2.0","id":1,"method":"x","params":[' + b"5," * 2000 + b"5]}]"
    refused = parse(frame, Limits(values=1000))
    assert isinstance(refused, Invalid)
    assert refused.id is None
