"""The longest known prefix of a prompt: ours (C++) against the same in Python and against mlx-lm's ``PromptTrie``.
1,000 conversations of 10,048 tokens share the first 4,992. Forms take turns prompt by prompt; payloads are numbers.

A lookup is timed until it has the payloads of all known blocks. Its time is the best of three rounds over all prompts,
so that the 99th percentile is that of prompts, not of a shared machine; an insert happens once. The Python forms know
whole blocks only: neither partial leaves nor where a prompt left the known ones, and no order of eviction. mlx-lm takes
turns with ours apart from them, because its walk through ten thousand dictionaries empties the processor's caches, as a
model's step does. Memory is the growth of a process that holds one form and nothing else.

    python -m benchmarks.prefix_index
"""

from __future__ import annotations

import gc
import random
import statistics
import struct
import subprocess
import sys
from array import array
from collections.abc import Callable
from typing import Protocol

import numpy as np
import psutil
import xxhash
from mlx_lm.models.cache import PromptTrie
from numpy.typing import NDArray

from mlx_sidecar_native._native import PrefixIndex

from .measure import Row, seconds, table

BLOCK = 64
SHARED, OWN = 78 * BLOCK, 79 * BLOCK
CONVERSATIONS = 1000
LOOKUPS = 500
ROUNDS = 3
STALLING = 20  # conversations the peer searches where a prompt leaves the shared part: its time grows with their number

Prompt = NDArray[np.int32]


class Form(Protocol):
    """One way to index prompts."""

    def insert(self, prompt: Prompt, payload: int) -> None: ...
    def find(self, prompt: Prompt) -> list[int]:
        """Return the payloads of the known blocks, in either order."""
        ...


class Ours:
    def __init__(self) -> None:
        self.index = PrefixIndex(BLOCK)
        self.root = self.index.root()

    def insert(self, prompt: Prompt, payload: int) -> None:
        start = SHARED if self.index.nodes else 0
        self.index.insert(self.root, prompt, start, len(prompt), payload, disk=False, exact=False)

    def find(self, prompt: Prompt) -> list[int]:
        return self.index.find(self.root, prompt).ram


class OursRead(Ours):
    """Our index, with all lists of the match read."""

    def find(self, prompt: Prompt) -> list[int]:
        match = self.index.find(self.root, prompt)
        _ = match.nodes, match.ends, match.disk
        return match.ram


class Node:
    __slots__ = ("children", "parent", "payload", "used")

    def __init__(self, payload: int, parent: Node | None = None) -> None:
        self.payload, self.parent = payload, parent
        self.used = 0
        self.children: dict[bytes, Node] | None = None


class Chain:
    """A hash for every block, over it and all before it; looked up from the first on."""

    def __init__(self) -> None:
        self.known: dict[bytes, Node] = {}
        self.clock = 0

    def insert(self, prompt: Prompt, payload: int) -> None:
        data, hasher, parent = prompt.data.cast("B"), xxhash.xxh3_128(), None
        for at in range(0, len(data), 4 * BLOCK):
            hasher.update(data[at : at + 4 * BLOCK])
            parent = self.known.setdefault(hasher.digest(), Node(payload, parent))

    def find(self, prompt: Prompt) -> list[int]:
        data, hasher, payloads = prompt.data.cast("B"), xxhash.xxh3_128(), []
        self.clock += 1
        for at in range(0, len(data) - 4 * BLOCK + 1, 4 * BLOCK):
            hasher.update(data[at : at + 4 * BLOCK])
            node = self.known.get(hasher.digest())
            if node is None:
                break
            node.used = self.clock
            payloads.append(node.payload)
        return payloads


class Halving(Chain):
    """The same hashes, halving for the last that is known: eight long hashes instead of 157 short ones."""

    def find(self, prompt: Prompt) -> list[int]:
        data, payloads = prompt.data.cast("B"), []
        self.clock += 1
        low, high, last = 0, len(data) // (4 * BLOCK), None
        while low < high:
            middle = (low + high + 1) // 2
            node = self.known.get(xxhash.xxh3_128_digest(data[: middle * 4 * BLOCK]))
            if node is None:
                high = middle - 1
            else:
                low, last = middle, node
        while last is not None:
            last.used = self.clock
            payloads.append(last.payload)
            last = last.parent
        return payloads


class Blocks:
    """A tree of dictionaries by the bytes of a block: exact tokens, like ours."""

    def __init__(self) -> None:
        self.root = Node(-1)
        self.clock = 0

    def insert(self, prompt: Prompt, payload: int) -> None:
        data, at = prompt.tobytes(), self.root
        for begin in range(0, len(data), 4 * BLOCK):
            if at.children is None:
                at.children = {}
            at = at.children.setdefault(data[begin : begin + 4 * BLOCK], Node(payload))

    def find(self, prompt: Prompt) -> list[int]:
        data, children, payloads = prompt.tobytes(), self.root.children, []
        self.clock += 1
        for begin in range(0, len(data) - 4 * BLOCK + 1, 4 * BLOCK):
            node = children.get(data[begin : begin + 4 * BLOCK]) if children else None
            if node is None:
                break
            node.used = self.clock
            payloads.append(node.payload)
            children = node.children
        return payloads


class Trie:
    """mlx-lm's: a dictionary for every token."""

    def __init__(self) -> None:
        self.trie = PromptTrie()

    def insert(self, prompt: Prompt, payload: int) -> None:
        self.add(prompt.tolist(), payload)

    def add(self, tokens: list[int], payload: int) -> None:
        self.trie.add("model", tokens, payload)

    def find(self, prompt: Prompt) -> list[int]:
        return self.search(prompt.tolist())

    def search(self, tokens: list[int]) -> list[int]:
        found = self.trie.search("model", tokens)
        return [self.trie.get("model", found.shorter)] if found.shorter else []


FORMS: dict[str, Callable[[], Form]] = {
    "ours": Ours,
    "ours, all four lists read": OursRead,
    "Python, hashes, halving": Halving,
    "Python, hashes, in order": Chain,
    "Python, dictionaries of blocks": Blocks,
    "mlx-lm": Trie,
}
TOGETHER = [["ours", *(name for name in FORMS if name not in ("ours", "mlx-lm"))], ["ours", "mlx-lm"]]


def conversations(count: int) -> list[Prompt]:
    random_ = np.random.default_rng(1)
    shared = random_.integers(0, 150_000, SHARED, dtype=np.int32)
    return [np.concatenate([shared, random_.integers(0, 150_000, OWN, dtype=np.int32)]) for _ in range(count)]


def run() -> list[Row]:
    memory = {name: _memory_in_child(name) for name in FORMS if FORMS[name] is not OursRead}
    known = conversations(CONVERSATIONS)
    gc.disable()  # a collection among the trie's five million dictionaries would hit a form at random
    try:
        rows = [row for names in TOGETHER for row in _turns(names, known)]
        return [*rows, *_memory_rows(memory), *_stall(known), *_conversion(known[0].tolist())]
    finally:
        gc.enable()


def _turns(names: list[str], known: list[Prompt]) -> list[Row]:
    forms = {name: FORMS[name]() for name in names}
    beside = f", beside {names[1]}" if len(names) == 2 else ""
    inserts = _in_turns(forms, known, _inserting)
    asked = random.Random(2).sample(known, LOOKUPS)
    rounds = [_in_turns(forms, [_grown(prompt) for prompt in asked], _finding) for _ in range(ROUNDS)]
    lookups = {name: [min(each) for each in zip(*(times[name] for times in rounds), strict=True)] for name in forms}
    return [
        *_times(f"look up 10,148 tokens, 10,048 of them known{beside}", lookups, "p99 20 µs"),
        *_times(f"insert 5,056 tokens behind 4,992 known ones{beside}", inserts, "p99 100 µs"),
    ]


def _grown(prompt: Prompt) -> Prompt:
    """Return a conversation with its next turn."""
    return np.concatenate([prompt, np.full(100, 7, dtype=np.int32)])


def _inserting(form: Form, prompt: Prompt, tokens: list[int], number: int) -> float:
    if isinstance(form, Trie):
        return seconds(lambda: form.add(tokens, number))
    return seconds(lambda: form.insert(prompt, number))


def _finding(form: Form, prompt: Prompt, tokens: list[int], _number: int) -> float:
    if isinstance(form, Trie):
        return seconds(lambda: form.search(tokens))
    return seconds(lambda: form.find(prompt))


def _in_turns(
    forms: dict[str, Form], prompts: list[Prompt], work: Callable[[Form, Prompt, list[int], int], float]
) -> dict[str, list[float]]:
    """Seconds of each form for each prompt, which is fresh in the processor's cache as if just received."""
    times: dict[str, list[float]] = {name: [] for name in forms}
    for number, prompt in enumerate(prompts):
        for name, form in forms.items():
            tokens = prompt.tolist() if isinstance(form, Trie) else []
            times[name].append(work(form, prompt.copy(), tokens, number))
    return {name: each[1:] for name, each in times.items()}  # the first pays for first touches


def _times(what: str, times: dict[str, list[float]], asked: str) -> list[Row]:
    rows = []
    for name, each in times.items():
        p99 = statistics.quantiles(each, n=100)[-1]
        figure = f"median {statistics.median(each) * 1e6:,.0f} µs, p99 {p99 * 1e6:,.0f} µs"
        if name != "ours":
            ratio = statistics.median(theirs / mine for mine, theirs in zip(times["ours"], each, strict=True))
            figure += f"; {ratio:.1f}× ours"
        rows.append(Row(f"{what}: {name}", figure, asked if name == "ours" else ""))
    return rows


def _memory_in_child(name: str) -> int:
    command = [sys.executable, "-m", "benchmarks.prefix_index", name]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def _growth(name: str) -> int:
    """Resident bytes that a form takes for all conversations; prompts are made one at a time."""
    known = conversations(CONVERSATIONS)
    form = FORMS[name]()
    gc.disable()
    before = psutil.Process().memory_info().rss
    for number, prompt in enumerate(known):
        form.insert(prompt, number)
    return int(psutil.Process().memory_info().rss - before)


def _memory_rows(memory: dict[str, int]) -> list[Row]:
    ours = memory["ours"]
    rows = [Row("memory: ours", f"{ours / 1e6:.0f} MB", "1/20 of mlx-lm's")]
    others = [(name, grown) for name, grown in memory.items() if name != "ours"]
    return rows + [Row(f"memory: {name}", f"{grown / 1e6:,.0f} MB; {grown / ours:.1f}× ours") for name, grown in others]


def _stall(known: list[Prompt]) -> list[Row]:
    """Look up a prompt that leaves all known ones within their shared part, where the trie looks for the shortest."""
    ours, peer = Ours(), Trie()
    for number, prompt in enumerate(known[:STALLING]):
        ours.insert(prompt, number)
        peer.insert(prompt, number)
    left = np.concatenate([known[0][: SHARED // 2], np.full(SHARED, 7, dtype=np.int32)])
    mine = statistics.median(seconds(lambda: ours.find(left.copy())) for _ in range(99))
    tokens = left.tolist()
    theirs = seconds(lambda: peer.search(tokens))
    figure = f"{mine * 1e6:.0f} µs against {theirs:.1f} s of mlx-lm"
    return [Row(f"look up a prompt that leaves {STALLING} conversations in what they share", figure)]


def _conversion(tokens: list[int]) -> list[Row]:
    forms: dict[str, Callable[[], object]] = {
        'array("i", tokens)': lambda: array("i", tokens),
        "numpy.array": lambda: np.array(tokens, dtype=np.int32),
        "struct.pack": lambda: memoryview(struct.pack(f"{len(tokens)}i", *tokens)).cast("i"),
    }
    figures = {name: statistics.median(seconds(make) for _ in range(199)) * 1e6 for name, make in forms.items()}
    figure = ", ".join(f"{name} {figure:.0f} µs" for name, figure in figures.items())
    return [Row(f"a list of {len(tokens):,} integers made into what a lookup takes", figure)]


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(_growth(sys.argv[1]))
    else:
        print(table(run()))
