from collections.abc import Sequence
from typing import TypeAlias, final

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Buffer

# Before Python 3.12 the types of numpy do not say that its arrays are buffers.
_Tokens: TypeAlias = Buffer | NDArray[np.int32]

def build_info() -> dict[str, str]:
    """What the extension was built from and with: `version`, `compiler`, `system`, `python`."""

def load_blas(shim: str, openblas: str, invariant: bool) -> tuple[str, str, str | None]:
    """Put the shim's cblas in front of any BLAS that is loaded later.

    `invariant`: the shim computes every float32 product itself, and the bits of an element do not depend on what shares
    the product with it. Answers (path, configuration) of the OpenBLAS and, where `invariant`, the name of the kernels.
    A second call changes nothing and answers what the first one loaded. Raises OSError; then nothing has changed.
    """

def loaded_blas() -> tuple[str, str, str | None] | None:
    """What `load_blas` answered in this process, or None."""

def blas_threads() -> int:
    """Threads the loaded OpenBLAS uses for one product; 0 when none is loaded."""

@final
class Match:
    """What `PrefixIndex.find` knows of a prompt. A payload of -1 is none. A list is made when it is first read."""

    @property
    def nodes(self) -> list[int]:
        """The nodes all of whose tokens match, from the first block on; only the last may be a partial one."""
    @property
    def ends(self) -> list[int]:
        """Tokens up to the end of each of `nodes`."""
    @property
    def ram(self) -> list[int]:
        """Payloads of `nodes` in ram."""
    @property
    def disk(self) -> list[int]:
        """Payloads of `nodes` on disk."""
    @property
    def tail(self) -> int:
        """What matches further than the last of `nodes`, but not entirely; -1 for none.

        It is a child of that one, or of the root, or where that one is a leaf a sibling.
        """
    @property
    def common(self) -> int:
        """Tokens of `nodes` together, and those that the prompt and `tail` have in common."""
    @property
    def tail_ram(self) -> int: ...
    @property
    def tail_disk(self) -> int: ...

@final
class Inserted:
    """What `PrefixIndex.insert` did."""

    @property
    def count(self) -> int:
        """Nodes that took the payload."""
    @property
    def last(self) -> int:
        """The node that ends the path: that of the last block, or the one that goes on where the tail ends."""
    @property
    def ram(self) -> list[int]:
        """Payloads that nodes gave up in ram, superseded or `exact`, one entry for each node."""
    @property
    def disk(self) -> list[int]:
        """The same on disk."""

@final
class PrefixIndex:
    """Known prompts as trees of blocks of tokens, for two tiers (ram and disk) with payloads that mean nothing here.

    Blocks hold exact tokens; the last of a prompt may be partial: a leaf. Payloads are numbers from 0 on, and several
    nodes may have the same one. Nodes are numbers; that of a removed node is used again. Token arguments are contiguous
    buffers of int32 with one dimension, read in place: TypeError for another format, ValueError for another shape. The
    number of a node that is not there, or of a root where a block is meant, is a ValueError, and nothing has changed.
    Calls from several threads take turns; those that may take long (`clear`, `drop`, more than 65,536 tokens)
    work without the GIL.
    """

    def __init__(self, block: int) -> None:
        """Blocks of so many tokens; ValueError unless 1 to 65535."""

    def root(self) -> int:
        """The root of a new, empty tree. All trees share one order of eviction."""

    def find(self, root: int, tokens: _Tokens, touch: bool = True) -> Match:
        """The longest known prefix. `touch`: what it finds, tail included, is the most recently used from now on."""

    def insert(
        self, root: int, tokens: _Tokens, start: int, stop: int, payload: int, disk: bool, exact: bool
    ) -> Inserted:
        """Give the blocks of tokens[start:stop] the payload in a tier; a block that has one there keeps its own.

        ValueError unless `start` is a multiple of the block and the blocks before it are known. A new node supersedes
        the leaves that its tokens extend: they are removed, unless held. A tail with whose tokens a known node goes on
        is not made. `exact`: neither of the two; leaves stand beside each other, and the last block gives up what it
        has for the new payload, unless it is held. To insert into ram is to use.
        """

    def hold(self, nodes: Sequence[int]) -> None:
        """Until they are let go as often, these nodes are not evicted, superseded or removed.

        `forget` and `clear` do take payloads off held nodes, and `drop` removes them.
        """

    def let_go(self, nodes: Sequence[int]) -> None:
        """End a `hold`; what nothing needs any more is removed. ValueError if one is not held; then none is let go."""

    def evict(self) -> int:
        """Take the payload in ram off the least recently used node, and answer it; -1 if there is none to take.

        Held nodes and nodes with a child in ram are passed over; of nodes used at once the deepest goes first. A node
        with no payload, no children and no holds is removed, and so on upwards.
        """

    def forget(self, node: int, disk: bool) -> None:
        """Take the payload of one tier off this node, if it has one; remove nodes as `evict` does."""

    def clear(self, root: int, disk: bool) -> list[int]:
        """Take all payloads of a tier off this tree, answer them, one for each node; remove nodes as `evict` does."""

    def drop(self, root: int) -> None:
        """Remove the whole tree, held nodes too: whoever holds some must not let them go afterwards."""

    def tokens(self, node: int) -> list[int]:
        """Its own tokens."""

    def path(self, node: int) -> list[int]:
        """All tokens from the first of its tree to its last."""

    def parent(self, node: int) -> int:
        """-1 for a root."""

    def children(self, node: int) -> list[int]: ...
    def depth(self, node: int) -> int:
        """Tokens before it."""

    @property
    def nodes(self) -> int:
        """How many there are, roots not counted."""
    @property
    def ram_blocks(self) -> int:
        """Nodes with a payload in ram."""
    @property
    def disk_blocks(self) -> int:
        """Nodes with a payload on disk."""
    @property
    def nbytes(self) -> int:
        """Memory held: the capacity of all containers, filled or not."""
