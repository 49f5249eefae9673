"""After any sequence of calls the index equals a dictionary of prefixes."""

from __future__ import annotations

from array import array

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from mlx_sidecar_native._native import PrefixIndex
from tests.support.prefix_model import NO_PAYLOAD, Path, PrefixModel, Tier

MANY = 8  # nodes without which a tree is not worth felling

# Two tokens and short blocks: every other prompt leaves a known one somewhere.
prompts = st.lists(st.integers(0, 1), max_size=11).map(tuple)
tiers: st.SearchStrategy[Tier] = st.sampled_from(["ram", "disk"])


class IndexAgainstModel(RuleBasedStateMachine):
    @initialize(block=st.integers(1, 4))
    def begin(self, block: int) -> None:
        self.index, self.model = PrefixIndex(block), PrefixModel(block)
        self.payload = 0
        self.plant()

    @rule()
    @precondition(lambda self: len(self.model.trees) < 3)
    def plant(self) -> None:
        root = self.index.root()
        assert root not in self.model.trees
        self.model.trees[root] = {}

    @rule(data=st.data())
    @precondition(lambda self: len(self.model.trees) > 1 and len(self.places()) > MANY)
    def drop(self, data: st.DataObject) -> None:
        root = self.any_root(data)
        self.index.drop(root)
        del self.model.trees[root]

    @rule(data=st.data(), some=st.lists(prompts, min_size=1, max_size=4), touch=st.booleans())
    def find(self, data: st.DataObject, some: list[Path], touch: bool) -> None:
        root = self.any_root(data)
        for tokens in some:
            self.find_one(root, tokens, touch)

    def find_one(self, root: int, tokens: Path, touch: bool) -> None:
        match = self.index.find(root, array("i", tokens), touch)
        paths, tails, common = self.model.find(root, tokens)
        known = [self.model.trees[root][path] for path in paths]
        assert [self.path(node) for node in match.nodes] == paths
        assert match.ends == [len(path) for path in paths]
        assert (match.ram, match.disk) == ([each.ram for each in known], [each.disk for each in known])
        assert match.common == common
        tail = self.path(match.tail) if match.tail >= 0 else None
        assert tail in tails if tails else tail is None
        there = self.model.trees[root][tail] if tail is not None else None
        assert (match.tail_ram, match.tail_disk) == ((there.ram, there.disk) if there else (NO_PAYLOAD, NO_PAYLOAD))
        if touch:
            self.model.tick()
            self.model.use(root, [*paths, tail] if tail is not None else paths)

    @rule(data=st.data(), some=st.lists(prompts, min_size=1, max_size=6), tier=tiers, exact=st.booleans())
    def insert(self, data: st.DataObject, some: list[Path], tier: Tier, exact: bool) -> None:
        root, block = self.any_root(data), self.model.block
        for tokens in some:
            start = data.draw(st.sampled_from([0, 0, len(tokens) // block * block]))
            stop = data.draw(st.integers(start, len(tokens)))
            self.insert_one(root, tokens, start, stop, tier, exact)

    def insert_one(self, root: int, tokens: Path, start: int, stop: int, tier: Tier, exact: bool) -> None:
        prompt = array("i", tokens)
        self.payload += 1
        if start and tokens[:start] not in self.model.trees[root]:
            with pytest.raises(ValueError, match="not known"):
                self.index.insert(root, prompt, start, stop, self.payload, tier == "disk", exact)
            return
        inserted = self.index.insert(root, prompt, start, stop, self.payload, tier == "disk", exact)
        put = self.model.insert(root, tokens[:stop], start, self.payload, tier, exact)
        assert inserted.count == put.count
        assert (sorted(inserted.ram), sorted(inserted.disk)) == (sorted(put.ram), sorted(put.disk))
        last = self.path(inserted.last)
        assert last in put.last
        if tier == "ram" and stop > start:
            self.model.use(root, [last])

    @rule(data=st.data())
    @precondition(lambda self: any(self.model.trees.values()))
    def hold(self, data: st.DataObject) -> None:
        held = data.draw(st.lists(st.sampled_from(self.places()), min_size=1, max_size=4))
        self.index.hold([self.numbers(root)[path] for root, path in held])
        for root, path in held:
            self.model.trees[root][path].holds += 1

    @rule(data=st.data())
    @precondition(lambda self: any(self.model.trees.values()))
    def let_go(self, data: st.DataObject) -> None:
        held = [(root, path) for root, path in self.places() for _ in range(self.model.trees[root][path].holds)]
        some = data.draw(st.permutations(held).map(lambda all_held: all_held[: (len(held) + 1) // 2]))
        numbers = [self.numbers(root)[path] for root, path in some]
        free = next((place for place in self.places() if place not in held), None)
        if free:
            with pytest.raises(ValueError, match="not held"):
                self.index.let_go([*numbers, self.numbers(free[0])[free[1]]])
        self.index.let_go(numbers)
        for root, path in some:
            self.model.trees[root][path].holds -= 1
        self.model.prune()

    @rule()
    def evict(self) -> None:
        assert self.index.evict() == self.model.evict()

    @rule(data=st.data(), tier=tiers)
    @precondition(lambda self: any(self.model.trees.values()))
    def forget(self, data: st.DataObject, tier: Tier) -> None:
        root, path = data.draw(st.sampled_from(self.places()))
        self.index.forget(self.numbers(root)[path], tier == "disk")
        self.model.trees[root][path].take(tier)
        self.model.prune()

    @rule(data=st.data(), tier=tiers)
    @precondition(lambda self: len(self.places()) > MANY)
    def clear(self, data: st.DataObject, tier: Tier) -> None:
        root = self.any_root(data)
        assert sorted(self.index.clear(root, tier == "disk")) == sorted(self.model.clear(root, tier))

    @invariant()
    def both_know_the_same(self) -> None:
        for root, tree in self.model.trees.items():
            assert self.numbers(root).keys() == tree.keys()
            for path, known in tree.items():
                match = self.index.find(root, array("i", path), touch=False)
                assert (match.ends[-1], match.ram[-1], match.disk[-1]) == (len(path), known.ram, known.disk)
        everything = [known for tree in self.model.trees.values() for known in tree.values()]
        assert self.index.nodes == len(everything)
        assert self.index.ram_blocks == sum(known.ram != NO_PAYLOAD for known in everything)
        assert self.index.disk_blocks == sum(known.disk != NO_PAYLOAD for known in everything)

    def teardown(self) -> None:
        """Evict to the end in the right order; held nodes stay."""
        for _ in range(self.index.ram_blocks + 1):
            self.evict()
        self.both_know_the_same()

    def any_root(self, data: st.DataObject) -> int:
        return data.draw(st.sampled_from(sorted(self.model.trees)))

    def places(self) -> list[tuple[int, Path]]:
        return [(root, path) for root in sorted(self.model.trees) for path in sorted(self.model.trees[root])]

    def path(self, node: int) -> Path:
        return tuple(self.index.path(node))

    def numbers(self, root: int) -> dict[Path, int]:
        """Return every node below the root by its path, and check each node's own answers."""
        numbers: dict[Path, int] = {}
        waiting = [(root, child) for child in self.index.children(root)]
        while waiting:
            parent, node = waiting.pop()
            path = self.path(node)
            assert self.index.parent(node) == parent
            assert tuple(self.index.tokens(node)) == path[self.index.depth(node) :]
            assert path not in numbers
            numbers[path] = node
            waiting += [(node, child) for child in self.index.children(node)]
        return numbers


IndexAgainstModel.TestCase.settings = settings(max_examples=100, stateful_step_count=40)
TestIndexAgainstModel = IndexAgainstModel.TestCase
