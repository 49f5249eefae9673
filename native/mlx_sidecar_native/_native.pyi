from collections.abc import Sequence
from typing import Any, TypeAlias, final

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Buffer

# Before Python 3.12 the types of numpy do not say that its arrays are buffers.
_Tokens: TypeAlias = Buffer | NDArray[np.int32]

def build_info() -> dict[str, str]:
    """Return the `version` of the extension, and the `compiler`, `system` and `python` it was built with."""

def load_blas(shim: str, openblas: str, invariant: bool) -> tuple[str, str, str | None]:
    """Put the shim's cblas in front of any BLAS that is loaded later.

    Where `invariant`, the shim computes every float32 product itself, and the bits of an element do not depend on the
    rest of the product. Returns the path and configuration of the OpenBLAS and, where `invariant`, the name of the
    kernels. A second call changes nothing and returns what the first one loaded. Raises OSError, and then nothing has
    changed.
    """

def loaded_blas() -> tuple[str, str, str | None] | None:
    """Return what `load_blas` returned in this process; None before it succeeded."""

def blas_threads() -> int:
    """Return how many threads the loaded OpenBLAS uses for one product; 0 when none is loaded."""

@final
class Match:
    """The longest known prefix of a prompt, as `PrefixIndex.find` found it.

    A payload of -1 is none. A list is made when it is first read.
    """

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
        """The node that matches further than the last of `nodes`, but not entirely; -1 for none.

        It is a child of that last node, or of the root, or, where the last node is a leaf, a sibling of it.
        """
    @property
    def common(self) -> int:
        """How many tokens match: all of `nodes`, and those that the prompt and `tail` have in common."""
    @property
    def tail_ram(self) -> int:
        """The payload of `tail` in ram."""
    @property
    def tail_disk(self) -> int:
        """The payload of `tail` on disk."""

@final
class Inserted:
    """The changes that `PrefixIndex.insert` made."""

    @property
    def count(self) -> int:
        """How many nodes took the payload."""
    @property
    def last(self) -> int:
        """The node that ends the path: that of the last block, or the one that goes on where the tail ends."""
    @property
    def ram(self) -> list[int]:
        """Payloads in ram that superseded or `exact` nodes gave up, one entry for each node."""
    @property
    def disk(self) -> list[int]:
        """Payloads on disk that superseded or `exact` nodes gave up, one entry for each node."""

@final
class PrefixIndex:
    """Known prompts as trees of blocks of tokens, with payloads of the caller's in two tiers, ram and disk.

    Blocks hold exact tokens; the last of a prompt may be partial, and is then a leaf. Payloads are numbers from 0 on;
    several nodes may have the same one. Nodes are numbers; the number of a removed node is used again. Token arguments
    are contiguous buffers of int32 with one dimension, read in place. Raises TypeError for another format, ValueError
    for another shape, and ValueError for the number of a node that does not exist, or of a root where a block is meant;
    then nothing has changed. Calls from several threads take turns; long ones (`clear`, `drop`, over 65,536 tokens)
    work without the GIL.
    """

    def __init__(self, block: int) -> None:
        """Make an index of blocks of `block` tokens. Raises ValueError unless these are 1 to 65535."""

    def root(self) -> int:
        """Make an empty tree and return its root. All trees share one order of eviction."""

    def find(self, root: int, tokens: _Tokens, touch: bool = True) -> Match:
        """Find the longest known prefix. With `touch`, its nodes, tail included, become the most recently used."""

    def insert(
        self, root: int, tokens: _Tokens, start: int, stop: int, payload: int, disk: bool, exact: bool
    ) -> Inserted:
        """Give the blocks of tokens[start:stop] the payload in a tier; a block that has one there keeps its own.

        A new node supersedes the leaves that its tokens extend: they are removed, unless held. A tail whose tokens a
        known node begins with is not made. With `exact`, neither happens: leaves stand beside each other, and the last
        block gives up its payload for the new one, unless it is held. Inserting into ram counts as use. Raises
        ValueError unless `start` is a multiple of the block and the blocks before it are known.
        """

    def hold(self, nodes: Sequence[int]) -> None:
        """Keep `nodes` from being evicted, superseded or removed, until they are let go as often as they were held.

        `forget` and `clear` do take payloads off held nodes, and `drop` removes them.
        """

    def let_go(self, nodes: Sequence[int]) -> None:
        """End one `hold` of `nodes`, and remove nodes as `evict` does.

        Raises ValueError if one is not held, and then none is let go.
        """

    def evict(self) -> int:
        """Take the payload in ram off the least recently used node, and return it; -1 if there is none to take.

        Held nodes and nodes with a child in ram are passed over; of nodes used at the same time the deepest goes first.
        A node with no payload, no children and no holds is removed, and then its parent, if it has none either.
        """

    def forget(self, node: int, disk: bool) -> None:
        """Take the payload of one tier off `node`, if it has one, and remove nodes as `evict` does."""

    def clear(self, root: int, disk: bool) -> list[int]:
        """Take all payloads of a tier off a tree and return them, one for each node; remove nodes as `evict` does."""

    def drop(self, root: int) -> None:
        """Remove a whole tree, held nodes too, which must not be let go afterwards."""

    def tokens(self, node: int) -> list[int]:
        """Return the tokens of `node` itself."""

    def path(self, node: int) -> list[int]:
        """Return all tokens from the first of the tree to the last of `node`."""

    def parent(self, node: int) -> int:
        """Return the parent of `node`; -1 for a root."""

    def children(self, node: int) -> list[int]:
        """Return the children of `node`, in the order of their tokens' bytes."""

    def depth(self, node: int) -> int:
        """Return how many tokens stand before `node`."""

    @property
    def nodes(self) -> int:
        """How many nodes there are, roots not counted."""
    @property
    def ram_blocks(self) -> int:
        """How many nodes have a payload in ram."""
    @property
    def disk_blocks(self) -> int:
        """How many nodes have a payload on disk."""
    @property
    def nbytes(self) -> int:
        """Bytes of memory held: the capacity of all containers, filled or not."""

class cpu:  # noqa: N801 - a module
    """Kernels of a decoder's step on a CPU, for several instruction sets."""

    @staticmethod
    def kernels() -> str:
        """Return the name of the set in use."""
    @staticmethod
    def kernel_sets() -> list[str]:
        """Return the sets that this processor has, the best first."""
    @staticmethod
    def use_kernels(name: str) -> bool:
        """Put another set to use. False, and nothing changes, if this processor has none of that name."""

    # Single kernels, for tests and benchmarks: all arrays are float32 and contiguous, and TypeError or ValueError says
    # which are not.
    BLOCK_TOKENS: int
    @staticmethod
    def store_keys_values(
        block: NDArray[np.float32] | NDArray[np.float16],
        place: int,
        keys: NDArray[np.float32],
        values: NDArray[np.float32],
    ) -> None:
        """Store a token's keys and values, [key_heads, size], at a place of a block, [key_heads, 2 * size * 64]."""
    @staticmethod
    def attend(
        queries: NDArray[np.float32],
        blocks: NDArray[np.float32] | NDArray[np.float16],
        out: NDArray[np.float32],
        *,
        position: int,
        window: int,
        scale: float,
        cap: float,
        parts: int,
    ) -> None:
        """Attend from `queries`, [tokens, heads, size], the first at `position`, to what blocks [blocks, ...] hold.

        With `parts` above 0 the work is divided as if among so many threads, and done in another order.
        """
    @staticmethod
    def rms_norm(
        x: NDArray[np.float32], weight: NDArray[np.float32] | None, epsilon: float, out: NDArray[np.float32]
    ) -> None:
        """Write x / sqrt(mean(x^2) + epsilon) * weight of one row to `out`, which may be `x`."""
    @staticmethod
    def rotate(
        x: NDArray[np.float32], cosines: NDArray[np.float32], sines: NDArray[np.float32], traditional: bool
    ) -> None:
        """Rotate the pairs of each head of `x`, [heads, size], in place."""
    @staticmethod
    def gated(activation: str, gate: NDArray[np.float32], up: NDArray[np.float32], out: NDArray[np.float32]) -> None:
        """Write activation(gate) * up to `out`; silu, gelu or gelu_tanh."""
    @staticmethod
    def add_scaled(x: NDArray[np.float32], y: NDArray[np.float32], scale: float) -> None:
        """Add y * scale to `x`."""
    @staticmethod
    def cap(x: NDArray[np.float32], cap: float) -> None:
        """Make each x cap * tanh(x / cap)."""

    @final
    class Crew:
        """Threads that share the work of a step."""

        def __init__(self, threads: int) -> None:
            """Make a crew; its threads start with the first work that is worth it. ValueError if there is none."""
        @property
        def threads(self) -> int:
            """How many threads it has, the caller's included."""
        def divide(self, shares: int, operations: float) -> list[tuple[int, int]]:
            """Hand out shares of work and return, for each thread, the first that it did and the one behind its last.

            (0, 0) for a thread that did nothing. `operations` is an estimate of all floating point operations.
            """

    @final
    class SamplingPlan:
        """The settings of the rows of a step, for as many steps as the rows stay the same.

        Calls from several threads take turns, without the GIL.
        """

        def __init__(self, vocabulary: int, rows: Sequence[tuple[float, int, float, float, int, int]]) -> None:
            """Make a plan.

            Of each row: `temperature`, 0 for the likeliest token; `top_k` and `top_p`, off at 0 and from 1 on; `floor`,
            how far below the largest a logit may be, the logarithm of min-p; how many alternatives' log-probabilities
            to tell, -1 for no log-probabilities at all; and which of the changed logits are its own, -1 for none.
            Raises ValueError for a number beyond the vocabulary.
            """
        def sample(
            self,
            logits: NDArray[np.float32],
            changed: NDArray[np.float32] | None,
            keys: Sequence[Sequence[int]],
        ) -> tuple[NDArray[np.int32], NDArray[np.float32], dict[int, tuple[float, list[tuple[int, float]]]]]:
            """Sample a token of each row, with the noise of its key, two words of 32 bits.

            `logits` are [rows, vocabulary] and `changed` [changed rows, vocabulary], both float32 and contiguous. A row
            of those is sampled from; its log-probabilities are of `logits`. Returns tokens and largest logits, [rows],
            and for rows that asked, by index: the log-probability of the token, and the likeliest tokens with theirs.
            The largest of a row is not finite, and its token is meaningless, if a logit is NaN or plus infinity or none
            is finite. Raises TypeError for another type, ValueError for another shape.
            """

    @final
    class Matrix:
        """Weights as they are stored; their memory must outlive every decoder of them."""

        def __init__(
            self,
            format: str,  # noqa: A002 - the keyword of the C++ side
            rows: int,
            columns: int,
            weight: NDArray[Any],
            scales: NDArray[Any] | None = None,
            biases: NDArray[Any] | None = None,
            group: int = 0,
            scale_format: str = "float32",
        ) -> None:
            """Describe [rows, columns] in `format`: float32, float16, bfloat16, or mlx's affine q4 and q8.

            Raises ValueError for buffers with gaps or of another size, and for columns or groups that no kernel reads.
            """
        @property
        def rows(self) -> int: ...
        @property
        def columns(self) -> int: ...

    @final
    class Projection:
        """A linear layer; `number` is that under which adapters know it, -1 for none."""

        def __init__(self, matrix: cpu.Matrix, bias: NDArray[np.float32] | None = None, number: int = -1) -> None: ...

    @final
    class Norm:
        """An RMS norm."""

        def __init__(self, weight: NDArray[np.float32], epsilon: float) -> None: ...

    @final
    class Rope:
        """Rotary positions: `frequencies` are the angles of pairs at position 1."""

        def __init__(
            self, frequencies: NDArray[np.float32], position_scale: float, input_scale: float, traditional: bool
        ) -> None: ...

    @final
    class Layer:
        """A layer of a decoder, as native/src/cpu/spec.hpp describes it."""

        before_attention: cpu.Norm
        after_attention: cpu.Norm
        before_mlp: cpu.Norm
        after_mlp: cpu.Norm
        inputs: Sequence[cpu.Projection]
        output: cpu.Projection
        query_norm: cpu.Norm
        key_norm: cpu.Norm
        norms_whole: bool
        rope: int
        heads: int
        key_heads: int
        size: int
        kind: int
        scale: float
        cap: float
        gate_up: Sequence[cpu.Projection]
        down: cpu.Projection
        activation: str
        residual: float

        def __init__(self) -> None: ...

    @final
    class Spec:
        """A decoder, as native/src/cpu/spec.hpp describes it."""

        embedding: cpu.Matrix
        embedding_scale: float
        layers: Sequence[cpu.Layer]
        ropes: Sequence[cpu.Rope]
        windows: Sequence[int]
        norm: cpu.Norm
        head: cpu.Projection
        logit_scale: float
        logit_cap: float

        def __init__(self) -> None: ...

    @final
    class Blocks:
        """Keys and values of tokens `start` to `stop`, for as long as this lives."""

        @property
        def start(self) -> int: ...
        @property
        def stop(self) -> int: ...
        def read(self, first: int, last: int, start: int, stop: int) -> NDArray[np.float32] | NDArray[np.float16]:
            """Return a copy of members `first` to `last`: [members, heads, stop - start, size]; any thread may."""
        @property
        def nbytes(self) -> int:
            """Bytes of all its blocks of 64 tokens."""

    @staticmethod
    def allocated_bytes() -> int:
        """Return the bytes of keys, values and buffers of all decoders."""

    @final
    class Adapter:
        """A low-rank adapter: pairs of matrices, by the numbers of projections."""

        def __init__(self) -> None: ...
        def add(self, number: int, a: NDArray[np.float32], b: NDArray[np.float32]) -> None:
            """Copy a pair: `a` [rank, columns] and `b` [rows, rank], the scale in `b`.

            ValueError where the rank or the columns are no multiples of 8.
            """
        @property
        def nbytes(self) -> int: ...

    @final
    class Decoder:
        """A decoder with its rows, which the caller numbers. ValueError for rows and tokens that are not there.

        A step is computed on a thread of its own. For one caller at a time.
        """

        def __init__(self, spec: cpu.Spec, weights: object, threads: int, arithmetic: str, cache_dtype: str) -> None:
            """Make one; `weights` keeps alive what the spec's matrices read. `arithmetic`: exact, fast or int8.

            Keys and values are kept as numbers of `cache_dtype`: float32, or float16 to which they are rounded. Raises
            ValueError where the spec does not fit together.
            """
        def open(self, row: int) -> None:
            """Make an empty row."""
        def adapt(self, row: int, adapter: cpu.Adapter) -> None:
            """Let the tokens to come of a row be computed with `adapter`. ValueError where it does not fit."""
        def close(self, row: int) -> None:
            """Forget a row."""
        def clear(self) -> None:
            """Forget all rows, once no step is being computed."""
        def length(self, row: int) -> int:
            """Return how many tokens a row has, those of the step that is being computed included."""
        def truncate(self, row: int, length: int) -> bool:
            """Drop the newest tokens of a row; False if some of them are not of its last step."""
        def capture(self, row: int, kind: int, start: int, stop: int) -> cpu.Blocks:
            """Return the keys and values of layers of a kind, as far as the row has them; `start` begins a block."""
        def adopt(self, row: int, blocks: cpu.Blocks, start: int, stop: int) -> bool:
            """Let a new row begin with tokens of `blocks`; called in their order. False if they are of other layers."""
        def put(self, row: int, kind: int, start: int, stop: int, entries: NDArray[Any]) -> None:
            """Let a new row begin with tokens from elsewhere: [members, heads, stop - start, size] of `cache_dtype`."""
        def begin_at(self, row: int, length: int) -> None:
            """Set the length of a new row to that of what it was given. ValueError if something is missing."""
        def release(self) -> None:
            """Give back the memory that steps compute in, once none is being computed."""
        def submit(self, parts: Sequence[tuple[int, int, int, bool]], tokens: NDArray[np.int32]) -> None:
            """Start a step over `parts`: a row, its tokens, for how many of the last something is wanted, and what.

            That is logits, or where the part says so hidden states behind the last norm.

            Waits for the step before. Raises MemoryError where there is no room for the tokens.
            """
        def wait(self) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
            """Wait for the step, and return its logits, [wanted, vocabulary], and hidden states, [wanted, width].

            The second are None where no part wants any. Raises MemoryError.
            """

    @staticmethod
    def multiply(
        matrix: cpu.Matrix,
        x: NDArray[np.float32],
        out: NDArray[np.float32],
        arithmetic: str,
        first_row: int,
        last_row: int,
    ) -> None:
        """Write `x`, [tokens, columns], times rows `first_row` to `last_row` to these columns of `out`, [tokens, rows].

        `arithmetic` is exact, fast or int8. Raises ValueError for other shapes.
        """
    @staticmethod
    def expand_row(matrix: cpu.Matrix, row: int, out: NDArray[np.float32]) -> None:
        """Write a row of weights to `out`, [columns], as float32."""
