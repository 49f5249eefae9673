"""A segment in a file: what comes back is what was written, or nothing."""

from __future__ import annotations

import os
import random
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import cast

import mlx.core as mx
import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open

from mlx_sidecar.engine.cache.disk.format import Packed, Reader, pack, read_header, write_file
from mlx_sidecar.engine.cache.disk.header import VERSION, Damaged, Foreign
from mlx_sidecar.engine.cache.segment import BLOCK, Segment, Span
from tests.support.segments import EVER, IDENTITY, parent, prompt, same, segment

DTYPES = [mx.float32, mx.float16, mx.bfloat16]


def packed(made: Segment, seed: int = 0) -> Packed:
    tokens = prompt(made.stop, seed)
    return pack(IDENTITY, parent(tokens, made.start), made, tokens[made.start :])


def stored(file: Path, made: Segment) -> Path:
    write_file(file, packed(made))
    return file


shapes = st.tuples(st.integers(1, 4), st.integers(1, 3), st.integers(1, 5))
segments = st.builds(
    segment,
    st.sampled_from([0, BLOCK, 5 * BLOCK]),
    st.integers(5 * BLOCK + 1, 7 * BLOCK),
    shapes=st.lists(shapes, max_size=3),
    dtype=st.sampled_from(DTYPES),
    checkpoints=st.lists(st.none() | st.lists(st.integers(0, 4), max_size=4), max_size=4),
    seed=st.integers(1, 1000),
)


@given(made=segments)
def test_a_segment_of_any_geometry_comes_back_with_the_same_bits(made: Segment) -> None:
    with TemporaryDirectory() as folder:
        file = stored(Path(folder) / "file", made)
        header, read = Reader().read(file, EVER)
        assert same(read, made)
        assert header == read_header(file) == packed(made).header
        assert header.nbytes == file.stat().st_size


def test_types_of_different_size_lie_beside_each_other(tmp_path: Path) -> None:
    small = mx.array([[1, 2, 3]], dtype=mx.uint8)
    flags = mx.array([True, False])
    half, full = segment(0, 3, dtype=mx.bfloat16), segment(0, 3, checkpoints=[(3,)])
    mx.eval(small, flags)
    made = Segment(0, 3, (*half.spans, *full.spans), (small, None, *full.checkpoints, flags))
    assert same(Reader().read(stored(tmp_path / "file", made), EVER)[1], made)


def test_what_is_strided_in_memory_is_written_in_order(tmp_path: Path) -> None:
    across = mx.swapaxes(segment(0, 70, dtype=mx.bfloat16, shapes=[(2, 3, 70)]).spans[0].data, 2, 3)
    mx.eval(across)
    made = Segment(0, 70, (Span(0, across),))
    assert mx.array_equal(Reader().read(stored(tmp_path / "file", made), EVER)[1].spans[0].data, across)


def test_a_window_keeps_where_its_entries_begin(tmp_path: Path) -> None:
    whole = segment(64, 200)
    made = Segment(
        64, 200, (*whole.spans, Span(150, segment(150, 200).spans[0].data), Span(200, mx.zeros((2, 1, 0, 4))))
    )
    assert same(Reader().read(stored(tmp_path / "file", made), EVER)[1], made)


@pytest.mark.parametrize("dtype", DTYPES)
def test_any_program_that_reads_safetensors_reads_a_file(tmp_path: Path, dtype: mx.Dtype) -> None:
    made = segment(0, 100, dtype=dtype, shapes=[(2, 2, 8), (4, 1, 3)], checkpoints=[(1, 5), None])
    file = stored(tmp_path / "file.safetensors", made)
    loaded = mx.load(str(file))
    assert isinstance(loaded, dict)
    assert loaded.keys() == {"span.0", "span.1", "mark.0"}
    assert mx.array_equal(loaded["span.1"], made.spans[1].data)
    with safe_open(str(file), "numpy") as opened:
        assert opened.metadata()["stop"] == "100"


def test_what_another_thread_has_read_is_used_in_this_one_as_it_is(tmp_path: Path) -> None:
    made = segment(0, 100, dtype=mx.bfloat16)
    file = stored(tmp_path / "file", made)
    read: list[Segment] = []
    thread = threading.Thread(target=lambda: read.append(Reader().read(file, EVER)[1]))
    thread.start()
    thread.join()
    assert same(read[0], made)
    assert mx.array_equal(read[0].spans[0].data + 1, made.spans[0].data + 1)


def test_one_reader_reads_small_files_after_large_ones(tmp_path: Path) -> None:
    reader = Reader()
    for number, stop in enumerate([2000, 1, 300]):
        made = segment(0, stop, seed=number, dtype=mx.float16)
        earlier = reader.read(stored(tmp_path / "file", made), EVER)[1]
        assert same(earlier, made)


def test_a_file_is_its_owners_alone(tmp_path: Path) -> None:
    assert stat.S_IMODE(stored(tmp_path / "file", segment(0, 5)).stat().st_mode) == 0o600


def test_a_conversation_of_a_million_tokens_is_one_file(tmp_path: Path) -> None:
    made = Segment(0, 1_000_000, (Span(999_999, mx.ones((1, 1, 1, 1))),))
    mx.eval(made.spans[0].data)
    assert len(read_header(stored(tmp_path / "file", made)).tokens) == 1_000_000


def test_what_is_too_large_is_not_read(tmp_path: Path) -> None:
    file = stored(tmp_path / "file", segment(0, 64))
    with pytest.raises(Foreign, match="limit"):
        Reader().read(file, 1000)


def test_types_that_no_cache_has_are_not_written() -> None:
    made = Segment(0, 1, (), (mx.array([1j]),))
    with pytest.raises(Damaged, match="complex64"):
        packed(made)


@pytest.mark.parametrize("tokens", [3, 5])
def test_a_segment_of_other_tokens_is_not_written(tokens: int) -> None:
    with pytest.raises(Damaged, match="fit together"):
        pack(IDENTITY, None, segment(0, 4), prompt(tokens))


# Files that differ from what was written.


def test_every_single_byte_matters(tmp_path: Path) -> None:
    file = stored(tmp_path / "file", segment(0, 2, checkpoints=[(1,)]))
    content = file.read_bytes()
    for place in range(len(content)):
        file.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with pytest.raises((Damaged, Foreign)):
            Reader().read(file, EVER)


def flipped(content: bytearray, draw: random.Random) -> None:
    for _ in range(draw.randint(1, 3)):
        content[draw.randrange(len(content))] ^= draw.randint(1, 255)


def cut(content: bytearray, draw: random.Random) -> None:
    del content[draw.randrange(len(content)) :]


def grown(content: bytearray, draw: random.Random) -> None:
    content += draw.randbytes(draw.randint(1, 100))


def overwritten(content: bytearray, draw: random.Random) -> None:
    start = draw.randrange(len(content))
    content[start : start + draw.randint(1, 50)] = draw.randbytes(draw.randint(0, 50))


def noise(content: bytearray, draw: random.Random) -> None:
    content[:] = draw.randbytes(draw.randint(0, 2000))


def zeros(content: bytearray, draw: random.Random) -> None:
    start = draw.randrange(len(content))
    content[start:] = bytes(len(content) - start)


def mixed(content: bytearray, draw: random.Random) -> None:
    """Blocks of another file, as after a crash."""
    other = bytearray().join(bytes(part) for part in packed(segment(0, 90, seed=9), seed=9).parts)
    start = draw.randrange(min(len(content), len(other)))
    content[start:] = other[start:]


CORRUPTIONS: list[Callable[[bytearray, random.Random], None]] = [flipped, cut, grown, overwritten, noise, zeros, mixed]


@pytest.mark.parametrize("corrupt", CORRUPTIONS, ids=lambda corrupt: corrupt.__name__)
def test_a_corrupted_file_is_refused_or_reads_as_it_was(
    tmp_path: Path, corrupt: Callable[[bytearray, random.Random], None]
) -> None:
    made = segment(64, 150, dtype=mx.bfloat16, shapes=[(2, 2, 4), (2, 1, 3)], checkpoints=[(3, 3), None])
    file = stored(tmp_path / "file", made)
    original = file.read_bytes()
    reader, draw = Reader(), random.Random(corrupt.__name__)
    refused = 0
    for _ in range(700):
        content = bytearray(original)
        corrupt(content, draw)
        file.write_bytes(content)
        try:
            assert same(reader.read(file, EVER)[1], made)
            assert content == original
        except (Damaged, Foreign):
            refused += 1
    assert refused > 650


def resealed(file: Path, old: bytes, new: bytes) -> None:
    """Change a header, and make its digest fit."""
    content = file.read_bytes()
    end = 8 + int.from_bytes(content[:8], "little")
    text = content[8:end]
    assert old in text
    place = text.index(b'"header_digest":"') + len(b'"header_digest":"')
    text = (text[:place] + b"0" * 32 + text[place + 32 :]).replace(old, new)
    head = len(text).to_bytes(8, "little") + text
    place = head.index(b'"header_digest":"') + len(b'"header_digest":"')
    digest = xxhash.xxh3_128_hexdigest(head).encode()
    file.write_bytes(head[:place] + digest + head[place + 32 :] + content[end:])


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"shape":[2,1,100,4]', b'"shape":[2,1,100,5]'),
        (b'"shape":[2,1,100,4]', b'"shape":[2,100,4]'),
        (b'"shape":[2,1,100,4]', b'"shape":[-2,-1,100,4]'),
        (b'"shape":[2,1,100,4]', b'"shape":[4294967296,4294967296,100,0]'),
        (b'"shape":[2,1,100,4]', b'"shape":[2,1,50,8]'),
        (b'"data_offsets":[0,3200]', b'"data_offsets":[1,3200]'),
        (b'"data_offsets":[0,3200]', b'"data_offsets":[0,99999999999]'),
        (b'"dtype":"F32"', b'"dtype":"F64"'),
        (b'"dtype":"F32"', b'"dtype":"F16"'),
        (b'"span.0"', b'"span.1"'),
        (b'"firsts":"[0]"', b'"firsts":"[1]"'),
        (b'"firsts":"[0]"', b'"firsts":"[-1]"'),
        (b'"firsts":"[0]"', b'"firsts":"[0,0]"'),
        (b'"marks":"0"', b'"marks":"99999999999"'),
        (b'"start":"0"', b'"start":"64"'),
        (b'"start":"0"', b'"start":"-64"'),
        (b'"stop":"100"', b'"stop":"101"'),
        (b'"parent":""', b'"parent":"00"'),
        (b'"identity":"01', b'"identity":"..'),
        (b'"tokens":"', b'"tokens":"AAAA'),
        (b"{", b"[" * 100_000),
    ],
    ids=lambda part: part.decode()[:40],
)
def test_a_header_that_lies_with_the_right_digest_is_seen_through(tmp_path: Path, old: bytes, new: bytes) -> None:
    file = stored(tmp_path / "file", segment(0, 100))
    resealed(file, old, new)
    with pytest.raises(Damaged):
        Reader().read(file, EVER)


def test_an_array_that_is_not_aligned_for_its_type_is_not_made(tmp_path: Path) -> None:
    byte = mx.array([7], dtype=mx.uint8)
    file = stored(tmp_path / "file", Segment(0, 100, segment(0, 100).spans, (byte,)))
    resealed(file, b"[3200,3201]", b"[0,1]")
    resealed(file, b"[0,3200]", b"[1,3201]")
    with pytest.raises(Damaged):
        Reader().read(file, EVER)


def test_a_file_of_another_version_is_foreign(tmp_path: Path) -> None:
    file = stored(tmp_path / "file", segment(0, 100))
    resealed(file, VERSION.encode(), b"mlx-sidecar prefix 2")
    with pytest.raises(Foreign, match="prefix 2"):
        read_header(file)


def test_a_model_is_foreign(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    mx.save_safetensors(str(file), {"weight": mx.ones((4, 4))})
    with pytest.raises(Foreign, match="somebody else"):
        read_header(file)


def test_a_header_of_gigabytes_is_not_read(tmp_path: Path) -> None:
    file = tmp_path / "file"
    with file.open("wb") as opened:
        opened.write((1 << 32).to_bytes(8, "little"))
        opened.truncate(1 << 33)
    with pytest.raises(Damaged, match="limit"):
        read_header(file)


def test_pipes_links_and_folders_are_foreign(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(stored(tmp_path / "file", segment(0, 5)))
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for name in ("link", "pipe", "folder"):
        with pytest.raises(Foreign):
            Reader().read(tmp_path / name, EVER)


def test_a_write_that_fails_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    file = stored(tmp_path / "file", segment(0, 5))
    before = file.read_bytes()
    whole = packed(segment(0, 6))
    with pytest.raises(TypeError):
        write_file(file, Packed(whole.header, (*whole.parts, cast("bytes", None))))
    assert list(tmp_path.iterdir()) == [file]
    assert file.read_bytes() == before
