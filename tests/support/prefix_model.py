"""The prefix index again, as dictionaries of whole prefixes: slow, and short enough to be believed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

Path = tuple[int, ...]
Tier = Literal["ram", "disk"]
NO_PAYLOAD = -1


@dataclass
class Known:
    """One known prefix: the node whose tokens are the end of it."""

    ram: int = NO_PAYLOAD
    disk: int = NO_PAYLOAD
    used: int = 0
    holds: int = 0

    def take(self, tier: Tier) -> list[int]:
        """The payload it had there, if any."""
        payload: int = getattr(self, tier)
        setattr(self, tier, NO_PAYLOAD)
        return [payload] if payload != NO_PAYLOAD else []


@dataclass
class Put:
    """The effect of an insert; `last` are the paths that may serve as its end."""

    count: int = 0
    last: list[Path] = field(default_factory=list)
    ram: list[int] = field(default_factory=list)
    disk: list[int] = field(default_factory=list)


def in_common(a: Path, b: Path) -> int:
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


class PrefixModel:
    """Trees by number; a tree is its known prefixes. The root's path is empty and not in it."""

    def __init__(self, block: int) -> None:
        self.block = block
        self.trees: dict[int, dict[Path, Known]] = {}
        self.clock = 0

    def above(self, path: Path) -> Path:
        return path[: (len(path) - 1) // self.block * self.block]

    def children(self, root: int, path: Path) -> list[Path]:
        return [other for other in self.trees[root] if self.above(other) == path]

    def find(self, root: int, tokens: Path) -> tuple[list[Path], list[Path], int]:
        """The paths that match entirely, those that may be the tail, and the tokens in common."""
        matching = [path for path in self.trees[root] if tokens[: len(path)] == path]
        whole = sorted((path for path in matching if len(path) % self.block == 0), key=len)
        at = whole[-1] if whole else ()
        leaves = [path for path in matching if len(path) > len(at)]
        nodes = [*whole, max(leaves, key=len)] if leaves else whole
        end = len(nodes[-1]) if nodes else 0
        furthest = max((in_common(tokens, child) for child in self.children(root, at)), default=0)
        if furthest <= end:
            return nodes, [], end
        return nodes, [c for c in self.children(root, at) if in_common(tokens, c) == furthest], furthest

    def tick(self) -> None:
        self.clock += 1

    def use(self, root: int, paths: Iterable[Path]) -> None:
        for path in paths:
            self.trees[root][path].used = self.clock

    def insert(self, root: int, tokens: Path, start: int, payload: int, tier: Tier, exact: bool) -> Put:
        """All of `tokens` from `start` on; the tokens before are known. A sibling that serves is not marked here."""
        put, tree = Put(last=[tokens[:start]]), self.trees[root]
        if tier == "ram":
            self.tick()
        for begin in range(start, len(tokens), self.block):
            path = tokens[: begin + self.block]
            serving = [other for other in self.children(root, path[:begin]) if other[: len(path)] == path]
            if path not in tree and serving and not exact:
                put.last = serving
                break
            if path not in tree:
                self.make(root, path, exact, put)
            trades = exact and path == tokens and not tree[path].holds
            if getattr(tree[path], tier) == NO_PAYLOAD or trades:
                getattr(put, tier).extend(tree[path].take(tier))
                setattr(tree[path], tier, payload)
                put.count += 1
            if tier == "ram":
                self.use(root, [path])
            put.last = [path]
        return put

    def make(self, root: int, path: Path, exact: bool, put: Put) -> None:
        tree = self.trees[root]
        extended = [other for other in self.children(root, self.above(path)) if path[: len(other)] == other]
        for leaf in extended if not exact else []:
            if not tree[leaf].holds:
                put.ram += tree[leaf].take("ram")
                put.disk += tree[leaf].take("disk")
                del tree[leaf]
        tree[path] = Known(used=self.clock)

    def prune(self) -> None:
        """Removes what has no payload, no children and no holds."""
        for root, tree in self.trees.items():
            for path in sorted(tree, key=len, reverse=True):
                known = tree[path]
                empty = known.ram == known.disk == NO_PAYLOAD and not known.holds
                if empty and not self.children(root, path):
                    del tree[path]

    def evict(self) -> int:
        """Takes the payload that is due, and answers it."""
        candidates = [
            (known.used, -len(path), root, path)
            for root, tree in self.trees.items()
            for path, known in tree.items()
            if self.evictable(root, path)
        ]
        if not candidates:
            return NO_PAYLOAD
        _, _, root, path = min(candidates)
        (payload,) = self.trees[root][path].take("ram")
        self.prune()
        return payload

    def evictable(self, root: int, path: Path) -> bool:
        tree = self.trees[root]
        in_ram_below = any(tree[child].ram != NO_PAYLOAD for child in self.children(root, path))
        return tree[path].ram != NO_PAYLOAD and not tree[path].holds and not in_ram_below

    def clear(self, root: int, tier: Tier) -> list[int]:
        taken = [payload for known in self.trees[root].values() for payload in known.take(tier)]
        self.prune()
        return taken
