"""Names of blocks, and prompts put together from files that were found in any order."""

from __future__ import annotations

from array import array
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from mlx_sidecar.engine.cache.disk.chains import Chains
from mlx_sidecar.engine.cache.disk.events import CachedFile
from mlx_sidecar.engine.cache.disk.format import pack
from mlx_sidecar.engine.cache.disk.header import Header
from mlx_sidecar.engine.cache.disk.names import FileName, Namer, from_little, little, names, parsed
from mlx_sidecar.engine.cache.segment import BLOCK, Segment
from tests.support.segments import IDENTITY, OTHER, prompt

tokens = st.lists(st.integers(-(2**31), 2**31 - 1), max_size=200).map(lambda values: array("i", values))
# Prompts that share their beginnings in many ways: each block is all zeros or all ones.
prompts = st.lists(st.integers(0, 1), min_size=1, max_size=6).map(
    lambda blocks: array("i", [token for block in blocks for token in [block] * BLOCK])
)


@given(tokens, st.integers(0, 3))
def test_a_name_goes_on_from_the_one_before(prompt: array[int], blocks: int) -> None:
    whole = names(IDENTITY, None, prompt)
    begun = names(IDENTITY, None, prompt[: blocks * BLOCK])
    assert len(whole) == -(-len(prompt) // BLOCK)
    assert whole[: len(begun)] == begun
    if begun:
        assert whole == begun + names(IDENTITY, begun[-1], prompt[blocks * BLOCK :])


@given(tokens, tokens)
def test_other_tokens_and_other_makers_have_other_names(one: array[int], other: array[int]) -> None:
    ours, theirs = names(IDENTITY, None, one), names(IDENTITY, None, other)
    assert (ours[-1:] == theirs[-1:]) == (one == other)
    assert not set(ours) & set(names(OTHER, None, one))


@given(st.lists(st.tuples(st.sampled_from([IDENTITY, OTHER]), tokens | prompts), max_size=10))
def test_who_names_one_prompt_after_the_other_gives_the_same_names(asked: list[tuple[str, array[int]]]) -> None:
    namer = Namer()
    for identity, whole in asked:
        assert namer.names(identity, whole) == names(identity, None, whole)


@given(tokens)
def test_tokens_are_bytes_and_back(prompt: array[int]) -> None:
    assert from_little(little(prompt)) == prompt


@given(st.integers(0, 10**9), st.integers(1, 10**9), st.binary(min_size=16, max_size=16))
def test_a_file_name_is_read_as_it_was_written(start: int, stop: int, end: bytes) -> None:
    name = FileName(start, stop, end)
    assert parsed(str(name)) == name


@given(st.text())
def test_what_is_no_file_name_of_ours_is_none(text: str) -> None:
    name = parsed(text)
    assert name is None or str(name) == text


def header(prompt: array[int], start: int, stop: int) -> Header:
    parent = names(IDENTITY, None, prompt[:start])[-1] if start else None
    return pack(IDENTITY, parent, Segment(start, stop, ()), prompt[start:stop]).header


def path(found: Header) -> Path:
    return Path(str(found.file_name))


@st.composite
def files(draw: st.DrawFn) -> list[tuple[Header, array[int]]]:
    """Files of some prompts, each with all tokens up to its end, in any order; not all that a prompt needs is there."""
    found: dict[Path, tuple[Header, array[int]]] = {}
    for whole in draw(st.lists(prompts, min_size=1, max_size=4)):
        for _ in range(draw(st.integers(1, 4))):
            start = draw(st.integers(0, len(whole) // BLOCK - 1)) * BLOCK
            stop = draw(st.integers(start + 1, len(whole)) | st.just(len(whole)))
            made = header(whole, start, stop)
            found[path(made)] = made, whole[:stop]
    return draw(st.permutations(list(found.values())))


def placed(found: list[tuple[Header, array[int]]]) -> set[Path]:
    """The plainest way to say it: a file has a place if a block that has one ends where it begins."""
    known: set[bytes] = set()
    paths: set[Path] = set()
    for made, whole in sorted(found, key=lambda file: file[0].start):
        if made.start == 0 or whole[: made.start].tobytes() in known:
            paths.add(path(made))
            known |= {whole[:end].tobytes() for end in range(made.start + BLOCK, made.stop + 1, BLOCK)}
    return paths


def all_of(chains: Chains) -> list[CachedFile]:
    entries: list[CachedFile] = []
    while some := chains.take():
        entries += some
    return entries


def assert_each_is_behind_what_it_needs(entries: list[CachedFile]) -> None:
    known = {b""}
    for entry in entries:
        assert entry.tokens[: entry.start].tobytes() in known
        known |= {entry.tokens[:end].tobytes() for end in range(entry.start + BLOCK, entry.stop + 1, BLOCK)}


@given(files())
def test_files_found_in_any_order_are_told_with_their_whole_prompt(found: list[tuple[Header, array[int]]]) -> None:
    chains = Chains()
    entries: list[CachedFile] = []
    for made, _ in found:
        chains.add(path(made), made)
        entries += all_of(chains)
    assert {entry.path for entry in entries} == placed(found)
    assert len(entries) == len(placed(found))
    assert {entry.path: entry.tokens for entry in entries}.items() <= {path(made): all_ for made, all_ in found}.items()
    assert_each_is_behind_what_it_needs(entries)


@given(files(), st.data())
def test_what_follows_a_file_that_is_gone_waits_for_it(
    found: list[tuple[Header, array[int]]], data: st.DataObject
) -> None:
    chains = Chains()
    for made, _ in found:
        chains.add(path(made), made)
    gone = data.draw(st.sets(st.sampled_from([path(made) for made, _ in found])))
    chains.drop(gone)
    left = [file for file in found if path(file[0]) not in gone]
    assert {entry.path for entry in all_of(chains)} == placed(left)
    for made, _ in found:
        if path(made) in gone:
            chains.add(path(made), made)
    assert {entry.path for entry in all_of(chains)} == placed(found) - placed(left)


def test_nobody_is_told_of_what_he_knows_already() -> None:
    made = header(prompt(BLOCK), 0, BLOCK)
    chains = Chains()
    chains.told(path(made))
    chains.add(path(made), made)
    assert not all_of(chains)


def test_a_file_that_claims_another_place_than_that_of_the_block_before_it_has_none() -> None:
    trunk = prompt(2 * BLOCK)
    first = header(trunk, 0, BLOCK)
    liar = pack(IDENTITY, first.names[-1], Segment(5 * BLOCK, 6 * BLOCK, ()), trunk[BLOCK:]).header
    chains = Chains()
    chains.add(path(first), first)
    chains.add(path(liar), liar)
    assert [entry.path for entry in all_of(chains)] == [path(first)]


def test_thousands_are_taken_in_small_parts() -> None:
    chains = Chains()
    for seed in range(1000):
        made = header(prompt(3, seed), 0, 3)
        chains.add(path(made), made)
    parts = []
    while part := chains.take():
        parts.append(len(part))
    assert max(parts) <= 256
    assert sum(parts) == 1000
