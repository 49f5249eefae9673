"""The content of a GGUF file's header, and that no header makes the reader allocate or raise anything untyped."""

from __future__ import annotations

import struct
import tracemalloc
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFReader
from hypothesis import given, settings
from hypothesis import strategies as st

from mlx_sidecar.checkpoint.gguf.header import read_header
from mlx_sidecar_protocol.errors import ModelLoadFailed, ModelNotFound, ModelUnsupported, RpcError
from tests.support.ggufs import write_example


@pytest.fixture(scope="module")
def valid(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("gguf") / "llama.gguf"
    write_example(path, "llama")
    return path.read_bytes()


def test_metadata_and_places_are_those_that_the_gguf_package_reads(tmp_path: Path, valid: bytes) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(valid)
    ours, theirs = read_header(path, "m"), GGUFReader(path)
    fields = {name: field for name, field in theirs.fields.items() if not name.startswith("GGUF.")}
    assert set(ours.metadata) == set(fields)
    for name, field in fields.items():
        value = ours.metadata[name]
        assert (value.tolist() if isinstance(value, np.ndarray) else value) == field.contents()
    assert [(t.name, t.shape[::-1], t.begin, t.nbytes) for t in ours.tensors] == [
        (t.name, tuple(t.shape.tolist()), t.data_offset, t.n_bytes) for t in theirs.tensors
    ]


def _text(text: bytes) -> bytes:
    return struct.pack("<Q", len(text)) + text


def _file(*, version: int = 3, tensors: int = 0, entries: int = 0, rest: bytes = b"") -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, tensors, entries) + rest


def _entry(key: bytes, kind: int, value: bytes) -> bytes:
    return _text(key) + struct.pack("<I", kind) + value


def _tensor(name: bytes, shape: tuple[int, ...], kind: int = 0, offset: int = 0) -> bytes:
    return _text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset)


_NUMBER = struct.pack("<I", 1)
HOSTILE = {
    "empty": b"",
    "another format": b"PK\3\4" + bytes(100),
    "tensors without end": _file(tensors=2**63),
    "entries without end": _file(entries=2**63),
    "a text without end": _file(entries=1, rest=struct.pack("<Q", 2**63)),
    "a long text": _file(entries=1, rest=_entry(b"k", 8, struct.pack("<Q", 2**40))),
    "numbers without end": _file(entries=1, rest=_entry(b"k", 9, struct.pack("<IQ", 4, 2**60))),
    "texts without end": _file(entries=1, rest=_entry(b"k", 9, struct.pack("<IQ", 8, 2**22))),
    "arrays in arrays": _file(entries=1, rest=_entry(b"k", 9, struct.pack("<IQ", 9, 1)) + bytes(64)),
    "no type of a value": _file(entries=1, rest=_entry(b"k", 99, b"")),
    "no UTF-8": _file(entries=1, rest=_entry(b"\xff\xfe", 4, _NUMBER)),
    "one key twice": _file(entries=2, rest=2 * _entry(b"k", 4, _NUMBER)),
    "an odd alignment": _file(entries=1, rest=_entry(b"general.alignment", 4, struct.pack("<I", 33))),
    "no alignment": _file(entries=1, rest=_entry(b"general.alignment", 4, struct.pack("<I", 0))),
    "data beyond the end": _file(tensors=1, rest=_tensor(b"t", (1 << 20, 1 << 20))),
    "an offset beyond the end": _file(tensors=1, rest=_tensor(b"t", (4,), offset=2**63)),
    "too many axes": _file(tensors=1, rest=_tensor(b"t", (1,) * 9)),
    "an axis of 0": _file(tensors=1, rest=_tensor(b"t", (0, 4))),
    "an axis of 2^40": _file(tensors=1, rest=_tensor(b"t", (2**40,))),
    "half a block": _file(tensors=1, rest=_tensor(b"t", (33,), kind=8)),
    "overlapping data": _file(tensors=2, rest=_tensor(b"t", (8,)) + _tensor(b"u", (8,)) + bytes(256)),
    "one name twice": _file(tensors=2, rest=_tensor(b"t", (8,)) + _tensor(b"t", (8,), offset=32) + bytes(256)),
}


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE)
def test_a_header_that_cannot_be_is_refused_before_anything_is_allocated_for_it(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(content)
    tracemalloc.start()
    try:
        with pytest.raises(ModelLoadFailed):
            read_header(path, "m")
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (_file(version=1), "GGUF of version 1"),
        (_file(version=3 << 24), "big-endian GGUF"),
        (_file(tensors=1, rest=_tensor(b"blk.0.x", (32,), kind=39) + bytes(64)), "'blk.0.x' has tensor format 39"),
    ],
)
def test_what_is_not_read_is_named(tmp_path: Path, content: bytes, told: str) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(content)
    with pytest.raises(ModelUnsupported, match=told):
        read_header(path, "m")


def test_a_file_that_is_not_there_and_a_directory_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound):
        read_header(tmp_path / "none.gguf", "m")
    with pytest.raises(ModelLoadFailed):
        read_header(tmp_path, "m")


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_any_damage_is_told_by_a_typed_error(
    tmp_path_factory: pytest.TempPathFactory, valid: bytes, data: st.DataObject
) -> None:
    header_bytes = 12_000
    damaged = bytearray(valid[: data.draw(st.integers(0, header_bytes), label="kept")])
    damaged += valid[len(damaged) :] if data.draw(st.booleans(), label="whole") else b""
    for _ in range(data.draw(st.integers(0, 4), label="changes")):
        if damaged:
            at = data.draw(st.integers(0, min(len(damaged), header_bytes) - 1))
            damaged[at] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "damaged.gguf"
    path.write_bytes(damaged)
    with suppress(RpcError):
        read_header(path, "m")
