"""Hypothesis strategies for the models of the wire, read off their annotations."""

from __future__ import annotations

from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from hypothesis import strategies as st
from pydantic import BaseModel

from mlx_sidecar_protocol.model import Measure, Received, Sent

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**31), 2**31)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)

# Values that some field somewhere takes and most refuse.
_ODD_VALUES: list[Any] = [
    *(None, True, False, 0, 1, -1, 3, 2**31, 2**63, 0.0, 0.5, -2.0, 1.5, 3.0),
    *("", "a", "pocket", "text", "low", "float32", "12", "\x00", [], [0], [-1], ["a"], [""], ["x"] * 17, [None]),
    *({}, {"1": 0.5}, {"a": 1}, {"role": "user"}, {"name": "host"}),
    *([{"role": "user", "content": "hi"}], [{"role": "user", "content": [{"type": "text", "text": "hi"}], "mood": 1}]),
    *([{"role": "user", "content": [{"type": "image"}]}], [{"content": "hi"}], [{"role": "user", "content": 3}]),
]


def sent(model: type[Sent]) -> st.SearchStrategy[Sent]:
    """Instances of a model we send, optional fields there or not."""
    hints = get_type_hints(model, include_extras=True)
    return st.fixed_dictionaries(
        {name: _values(hints[name]) for name, field in model.model_fields.items() if field.is_required()},
        optional={name: _values(hints[name]) for name, field in model.model_fields.items() if not field.is_required()},
    ).map(lambda fields: model.model_validate(fields, by_name=True, by_alias=False))


def attempts(model: type[Received]) -> st.SearchStrategy[dict[str, Any]]:
    """Objects that a host might send for ``model``, most of them wrong somewhere."""
    values = st.sampled_from(_ODD_VALUES)
    required = [name for name, field in model.model_fields.items() if field.is_required()]
    optional = [name for name, field in model.model_fields.items() if not field.is_required()]
    return st.builds(
        lambda base, more, extra: {**base, **more, **extra},
        st.fixed_dictionaries(dict.fromkeys(required, values)),
        _few(optional, values),
        st.dictionaries(st.sampled_from(["unknown", "stream_id"]), values, max_size=1),
    )


def _few(names: list[str], values: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.dictionaries(st.sampled_from(names), values, max_size=3) if names else st.just({})


def _values(hint: Any) -> st.SearchStrategy[Any]:
    if hint == Measure:
        return st.floats()
    if hint is Any:
        return JSON
    if hint in _PLAIN:
        return _PLAIN[hint]
    if isinstance(hint, type) and issubclass(hint, BaseModel):
        assert issubclass(hint, Sent)
        return sent(hint)
    return _composed(get_origin(hint), get_args(hint))


def _composed(origin: Any, inner: tuple[Any, ...]) -> st.SearchStrategy[Any]:
    if origin is Annotated:
        return _values(inner[0])
    if origin is Literal:
        return st.sampled_from(inner)
    if origin in (Union, UnionType):
        return st.one_of([_values(part) for part in inner])
    if origin is list:
        return st.lists(_values(inner[0]), max_size=3)
    assert origin is dict, origin
    return st.dictionaries(st.text(), _values(inner[1]), max_size=3)


_PLAIN: dict[Any, st.SearchStrategy[Any]] = {
    type(None): st.none(),
    bool: st.booleans(),
    int: st.integers(1, 2**31 - 1),  # within every bound our own integers have
    float: st.floats(0, allow_nan=False, allow_infinity=False),
    str: st.text(),
}
