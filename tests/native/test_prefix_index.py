"""The prefix index by example; test_prefix_index_model compares it after any sequence of calls."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from mlx_sidecar_native._native import Inserted, Match, PrefixIndex

BLOCK = 4


class Tree:
    """One tree of an index, in short words."""

    def __init__(self, index: PrefixIndex | None = None) -> None:
        self.index = index or PrefixIndex(BLOCK)
        self.root = self.index.root()

    def put(self, tokens: Iterable[int], payload: int, *, disk: bool = False, exact: bool = False) -> Inserted:
        prompt = array("i", tokens)
        return self.index.insert(self.root, prompt, 0, len(prompt), payload, disk, exact)

    def find(self, tokens: Iterable[int], *, touch: bool = True) -> Match:
        return self.index.find(self.root, array("i", tokens), touch)


@pytest.fixture
def tree() -> Tree:
    return Tree()


def evicted(index: PrefixIndex) -> list[int]:
    return list(iter(index.evict, -1))


def test_a_prompt_is_found_as_far_as_it_is_known(tree: Tree) -> None:
    tree.put(range(10), 7)
    match = tree.find([0, 1, 2, 3, 4, 5, 6, 9])
    assert (match.ends, match.ram, match.disk) == ([4], [7], [-1])
    assert (match.tail_ram, match.tail_disk, match.common) == (7, -1, 7)
    assert tree.index.path(match.tail) == [0, 1, 2, 3, 4, 5, 6, 7]


def test_a_partial_leaf_that_matches_entirely_is_one_of_the_nodes(tree: Tree) -> None:
    tree.put(range(10), 7)
    match = tree.find(range(12))
    assert match.ends == [4, 8, 10]
    assert (match.tail, match.common) == (-1, 10)


def test_nothing_is_known_of_an_empty_prompt_or_in_an_empty_tree(tree: Tree) -> None:
    assert tree.find([1]).nodes == tree.find([]).nodes == []
    assert (tree.put([], 7).count, tree.put([], 7).last) == (0, tree.root)
    assert tree.index.nodes == 0


def test_tiers_hold_payloads_of_their_own_and_the_first_one_stays(tree: Tree) -> None:
    assert tree.put(range(8), 1).count == 2
    assert tree.put(range(12), 2, disk=True).count == 3
    assert tree.put(range(12), 3).count == 1
    match = tree.find(range(12))
    assert (match.ram, match.disk) == ([1, 1, 3], [2, 2, 2])
    assert (tree.index.nodes, tree.index.ram_blocks, tree.index.disk_blocks) == (3, 3, 3)


def test_a_longer_tail_supersedes_the_one_it_extends(tree: Tree) -> None:
    tree.put(range(5), 1)
    tree.put(range(5), 2, disk=True)
    inserted = tree.put(range(7), 3)
    assert (inserted.ram, inserted.disk) == ([1], [2])
    assert tree.find(range(7)).ram == [1, 3]
    assert tree.index.nodes == 2


def test_a_tail_that_is_known_as_part_of_a_block_is_not_made(tree: Tree) -> None:
    block = tree.put(range(8), 1).last
    inserted = tree.put(range(6), 2)
    assert (inserted.count, inserted.last) == (0, block)
    assert tree.index.nodes == 2


def test_beside_a_leaf_that_matches_entirely_one_that_goes_further_is_found_as_well(tree: Tree) -> None:
    tree.put(range(6), 1, exact=True)
    tree.put(range(8), 2, exact=True)
    match = tree.find([0, 1, 2, 3, 4, 5, 6, 9])
    assert (match.ends, match.common, match.ram, match.tail_ram) == ([4, 6], 7, [1, 1], 2)


def test_an_exact_end_takes_the_place_of_what_was_there_unless_it_is_held(tree: Tree) -> None:
    tree.put(range(8), 1)
    inserted = tree.put(range(8), 2, exact=True)
    assert (inserted.count, inserted.ram, tree.find(range(8)).ram) == (1, [1], [1, 2])
    tree.index.hold([inserted.last])
    assert tree.put(range(8), 3, exact=True).count == 0
    assert tree.find(range(8)).ram == [1, 2]


def test_exact_leaves_stand_beside_each_other_and_the_longest_match_is_found(tree: Tree) -> None:
    for stop in (5, 6, 7, 8):
        assert tree.put(range(stop), stop, exact=True).ram == []
    assert tree.find([0, 1, 2, 3, 4, 5, 9]).ram == [5, 6]
    assert tree.find(range(9)).ram == [5, 8]


def test_a_held_leaf_is_not_superseded(tree: Tree) -> None:
    leaf = tree.put(range(5), 1).last
    tree.index.hold([leaf])
    assert tree.put(range(7), 2).ram == []
    assert tree.index.children(tree.index.parent(leaf))[0] == leaf
    tree.index.let_go([leaf])
    assert tree.put(range(8), 3).ram in ([1, 2], [2, 1])


def test_the_least_recently_used_goes_first_and_a_trunk_outlives_its_leaves(tree: Tree) -> None:
    trunk = list(range(4))
    tree.put(trunk, 1)
    for payload in (2, 3, 4):
        tree.put([*trunk, payload], payload)
    tree.find([*trunk, 2])
    assert evicted(tree.index) == [3, 4, 2, 1]
    assert tree.index.nodes == 0


def test_what_is_looked_up_without_touching_stays_as_old_as_it_was(tree: Tree) -> None:
    tree.put([1], 1)
    tree.put([2], 2)
    tree.find([1], touch=False)
    assert evicted(tree.index) == [1, 2]


def test_a_tail_that_matched_in_part_was_used(tree: Tree) -> None:
    tree.put([1, 1], 1)
    tree.put([2, 2], 2)
    tree.find([1, 0])
    assert evicted(tree.index) == [2, 1]


def test_of_nodes_used_at_once_the_deepest_goes_first(tree: Tree) -> None:
    tree.put(range(4), 1)
    tree.put(range(12), 2)
    middle = tree.find(range(8)).nodes[1]
    tree.index.forget(middle, disk=False)  # now the other two are independent in ram
    tree.find(range(12))
    assert evicted(tree.index) == [2, 1]


def test_to_insert_into_ram_again_is_to_use_and_onto_disk_is_not(tree: Tree) -> None:
    for payload in (1, 2, 3):
        tree.put([payload], payload)
    tree.put([1], 9)
    tree.put([2], 9, disk=True)
    assert evicted(tree.index) == [2, 3, 1]


def test_trees_know_nothing_of_each_other_and_share_one_order_of_eviction(tree: Tree) -> None:
    other = Tree(tree.index)
    tree.put(range(4), 1)
    other.put(range(4), 2)
    tree.find(range(4))
    assert other.find(range(4), touch=False).ram == [2]
    assert evicted(tree.index) == [2, 1]


def test_held_nodes_are_not_evicted_until_they_are_let_go_as_often(tree: Tree) -> None:
    node = tree.put(range(4), 1).last
    tree.index.hold([node, node])
    tree.index.let_go([node])
    assert tree.index.evict() == -1
    tree.index.let_go([node])
    assert tree.index.evict() == 1


def test_an_unbalanced_let_go_lets_nothing_go(tree: Tree) -> None:
    held, free = tree.put([1], 1).last, tree.put([2], 2).last
    tree.index.hold([held])
    for numbers in ([held, free], [held, held], [held, 99]):
        with pytest.raises(ValueError, match="node"):
            tree.index.let_go(numbers)
    assert evicted(tree.index) == [2]


def test_what_was_evicted_from_ram_is_still_known_on_disk(tree: Tree) -> None:
    tree.put(range(8), 1)
    tree.put(range(8), 2, disk=True)
    assert evicted(tree.index) == [1, 1]
    match = tree.find(range(8))
    assert (match.ram, match.disk) == ([-1, -1], [2, 2])
    tree.index.forget(match.nodes[0], disk=True)
    assert tree.index.nodes == 2  # the first is still on the way to the second
    tree.index.forget(match.nodes[1], disk=True)
    assert tree.index.nodes == 0


def test_clearing_takes_held_payloads_too_and_leaves_the_nodes_to_who_holds_them(tree: Tree) -> None:
    tree.put(range(4), 1)
    held = tree.put(range(8), 2).last
    tree.put([9], 3)
    tree.index.hold([held])
    assert sorted(tree.index.clear(tree.root, disk=False)) == [1, 2, 3]
    assert (tree.index.nodes, tree.index.ram_blocks, tree.index.evict()) == (2, 0, -1)
    tree.index.let_go([held])
    assert tree.index.nodes == 0


def test_a_dropped_tree_is_gone_and_others_stay(tree: Tree) -> None:
    other = Tree(tree.index)
    tree.put(range(9), 1)
    other.put(range(9), 2)
    tree.index.drop(tree.root)
    with pytest.raises(ValueError, match="no node"):
        tree.find([1])
    assert other.find(range(9)).ram == [2, 2, 2]
    assert evicted(tree.index) == [2, 2, 2]


def test_a_refused_insert_changes_nothing(tree: Tree) -> None:
    tree.put(range(6), 1)
    prompt = array("i", range(100, 112))
    refused: list[tuple[int, int, int]] = [(4, 8, 1), (2, 8, 1), (-4, 8, 1), (8, 4, 1), (0, 13, 1), (0, 8, -1)]
    for start, stop, payload in refused:
        with pytest.raises(ValueError, match=r"known|order|block|payload"):
            tree.index.insert(tree.root, prompt, start, stop, payload, False, False)
    assert (tree.index.nodes, evicted(tree.index)) == (2, [1, 1])


def test_blocks_go_on_only_behind_whole_blocks(tree: Tree) -> None:
    tree.put(range(6), 1)
    with pytest.raises(ValueError, match="not known"):
        tree.index.insert(tree.root, array("i", range(12)), 8, 12, 1, False, False)


@pytest.mark.parametrize("number", [-1, 99, 2**31, 2**40])
def test_a_number_that_is_no_node_is_refused(tree: Tree, number: int) -> None:
    tree.put(range(8), 1)
    index = tree.index
    calls: list[Callable[[], object]] = [
        lambda: index.find(number, array("i")),
        lambda: index.hold([number]),
        lambda: index.forget(number, disk=False),
        lambda: index.clear(number, disk=False),
        lambda: index.drop(number),
        lambda: index.path(number),
        lambda: index.children(number),
    ]
    for call in calls:
        with pytest.raises(ValueError, match="no node"):
            call()


def test_a_root_is_no_block_and_a_block_no_root(tree: Tree) -> None:
    node = tree.put(range(4), 1).last
    with pytest.raises(ValueError, match="is a root"):
        tree.index.hold([tree.root])
    with pytest.raises(ValueError, match="is not a root"):
        tree.index.drop(node)
    assert (tree.index.path(tree.root), tree.index.parent(tree.root), tree.index.depth(tree.root)) == ([], -1, 0)


@pytest.mark.parametrize(
    "tokens",
    [
        array("i", [1, 2]),
        np.array([1, 2], dtype=np.int32),
        memoryview(array("i", [1, 2])),
        np.array([0, 1, 2], dtype=np.int32)[1:],
    ],
)
def test_tokens_are_any_buffer_of_int32(tree: Tree, tokens: Any) -> None:
    tree.put([1, 2, 3, 4], 1)
    assert tree.index.find(tree.root, tokens).common == 2


@pytest.mark.parametrize("tokens", [[1, 2], "12", array("q", [1]), np.array([1.0], dtype=np.float32), b"12", None])
def test_other_kinds_of_tokens_are_a_type_error(tree: Tree, tokens: Any) -> None:
    with pytest.raises(TypeError):
        tree.index.find(tree.root, tokens)


@pytest.mark.parametrize("tokens", [np.zeros((2, 2), np.int32), np.zeros(4, np.int32)[::2], np.zeros((), np.int32)])
def test_other_shapes_of_tokens_are_a_value_error(tree: Tree, tokens: Any) -> None:
    with pytest.raises(ValueError, match="tokens"):
        tree.index.find(tree.root, tokens)


@pytest.mark.parametrize("block", [0, -1, 65536])
def test_a_block_has_a_length(block: int) -> None:
    with pytest.raises(ValueError, match="block"):
        PrefixIndex(block)


def test_the_longest_block_and_the_shortest() -> None:
    for block in (1, 65535):
        index = PrefixIndex(block)
        root, prompt = index.root(), np.arange(block * 2 + 1, dtype=np.int32)
        index.insert(root, prompt, 0, len(prompt), 1, False, False)
        assert index.find(root, prompt).ends == sorted({block, block * 2, block * 2 + 1})


def test_a_million_tokens_are_one_chain() -> None:
    index = PrefixIndex(64)
    root, prompt = index.root(), np.arange(1_000_000, dtype=np.int32)
    assert index.insert(root, prompt, 0, len(prompt), 1, False, False).count == 15625
    match = index.find(root, prompt)
    assert (match.common, match.ends[-1]) == (1_000_000, 1_000_000)
    assert index.path(match.nodes[-1])[::1000] == list(range(0, 1_000_000, 1000))
    assert evicted(index) == [1] * 15625
    assert index.nodes == 0


def test_a_node_with_ten_thousand_children_knows_each_and_evicts_them_in_order(tree: Tree) -> None:
    order = np.random.default_rng(5).permutation(10_000).tolist()
    for token in order:
        tree.put([1, 2, 3, 4, token], token)
    assert all(tree.find([1, 2, 3, 4, token, 0], touch=False).ram[-1] == token for token in order)
    assert evicted(tree.index) == [*order, order[0]]


def test_memory_is_used_again(tree: Tree) -> None:
    index = tree.index
    tree.put(range(40_000), 1)
    before = index.nbytes
    evicted(index)
    tree.put(range(50_000, 90_000), 2)
    assert index.nbytes == before


def test_threads_take_turns() -> None:
    index = PrefixIndex(64)

    def work(seed: int) -> bool:
        root, prompt = index.root(), np.random.default_rng(seed).integers(0, 9, 70_000, dtype=np.int32)
        stops = range(70_000 - 640, 70_000, 64)
        found = []
        for stop in stops:
            index.insert(root, prompt, 0, stop, seed, False, False)
            found.append(index.find(root, prompt).ends[-1])
        index.drop(root)
        return found == list(stops)

    with ThreadPoolExecutor(4) as threads:
        assert all(threads.map(work, range(8)))
    assert index.nodes == 0
