"""The comparisons: who does which work, and what is asked of their ratios."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from .contender import Contender
from .peers import COPY, Peers, random_16m
from .samples import Phase
from .work import Work

FAST, EXACT, BEFORE, TWO = "ours 4-bit, fast", "ours 4-bit, exact", "ours before", "ours 4-bit, fast, 2 threads"
Q4_0, Q4_1, F32 = "llama.cpp Q4_0", "llama.cpp Q4_1", "llama.cpp F32"
PIPES, PIPES_BEFORE = "ours over pipes", "ours before over pipes"
NO_FLASH = ", no flash attention"
BATCHES = (1, 2, 4, 8, 16, 32)
DEPTHS = (32, 512, 2048, 4096)


@dataclass(frozen=True)
class Asked:
    """``ours`` shall be ``least`` times as fast as the fastest of ``peers``; None: only told."""

    work: str
    phase: Phase
    ours: str
    peers: tuple[str, ...]
    least: float | None = None


@dataclass(frozen=True)
class Group:
    """``works`` by their names; ``axis``: these are numbers, the horizontal axis of a plot.

    ``rounds`` are the default, ``within_s`` bounds one measurement.
    """

    about: str
    contenders: Sequence[Contender]
    works: Mapping[str, Work]
    asked: Sequence[Asked] = ()
    rounds: int = 5
    axis: str = ""
    within_s: float = 300.0


def _against(work: str, phase: Phase, ours: str, *least: float) -> list[Asked]:
    """Ratios to llama.cpp's Q4_0 and Q4_1, each with its better attention, and to ours before."""
    peers = [(Q4_0, Q4_0 + NO_FLASH), (Q4_1, Q4_1 + NO_FLASH), (BEFORE,)]
    return [Asked(work, phase, ours, peer, ratio) for peer, ratio in zip(peers, least, strict=True)]


def _all(peers: Peers, *more: Contender) -> list[Contender]:
    return [peers.llama("Q4_0"), peers.llama("Q4_1"), peers.ours(), *more, *peers.earlier()]


def prefill(peers: Peers) -> Group:
    work = "prefill of 512"
    asked = [*_against(work, "prefill", FAST, 1.0, 2.2, 2.1), Asked(work, "prefill", EXACT, (Q4_0,))]
    return Group("In process, one thread.", _all(peers, peers.ours("exact")), {work: Work(512)}, asked)


def prefill_4096(peers: Peers) -> Group:
    work = "prefill of 4,096"
    asked = _against(work, "prefill", FAST, 1.5, 2.0, 3.2)
    return Group("In process, one thread.", _all(peers), {work: Work(4096)}, asked, rounds=2)


def decode(peers: Peers) -> Group:
    work = "decode after 32"
    rounded = peers.rounded()
    asked = [
        *_against(work, "decode", FAST, 0.9, 1.25, 6),
        *_against(work, "decode", EXACT, 0.7, 1.0, 5),
        *(Asked(work, "decode", rounded.name, (peer,)) for peer in (Q4_0, Q4_1)),
    ]
    contenders = _all(peers, peers.ours("exact"), rounded)
    return Group("In process, one thread.", contenders, {work: Work(32, 64)}, asked, rounds=7)


def depth(peers: Peers) -> Group:
    work = "decode after 4,096"
    no_flash = [peers.llama(ftype, flash=False) for ftype in ("Q4_0", "Q4_1")]
    in_halves = peers.in_halves()
    asked = [
        *_against(work, "decode", FAST, 1.5, 2.0, 2.9),
        *_against(work, "decode", in_halves.name, 1.5, 2.0, 2.9),
        Asked(work, "decode", EXACT, (Q4_0, Q4_0 + NO_FLASH)),
    ]
    about = "In process, one thread; the prompt is taken in once, and each round goes on where the last one stopped."
    contenders = _all(peers, peers.ours("exact"), in_halves, *no_flash)
    return Group(about, contenders, {work: Work(4096, 16, kept=True)}, asked, rounds=7)


def batch(peers: Peers) -> Group:
    works = {"8 rows": Work(32, 12, rows=8), "32 rows": Work(32, 6, rows=32)}
    asked = _against("8 rows", "decode", FAST, 0.95, 1.7, 3.5) + _against("32 rows", "decode", FAST, 1.05, 2.2, 3.0)
    return Group("In process, one thread.", _all(peers), works, asked)


def float32(peers: Peers) -> Group:
    works = {"prefill of 512": Work(512), "decode after 32": Work(32, 32), "8 rows": Work(32, 8, rows=8)}
    ours = peers.ours_as("float32")
    asked = [
        Asked("prefill of 512", "prefill", ours.name, (F32,), 2.2),
        Asked("decode after 32", "decode", ours.name, (F32,), 0.95),
        Asked("8 rows", "decode", ours.name, (F32,), 1.5),
    ]
    return Group("float32 weights, in process, one thread.", [peers.llama("F32"), ours], works, asked)


def float32_4096(peers: Peers) -> Group:
    work, ours = "prefill of 4,096", peers.ours_as("float32")
    asked = [Asked(work, "prefill", ours.name, (F32,), 2.0)]
    about = "float32 weights, in process, one thread."
    return Group(about, [peers.llama("F32"), ours], {work: Work(4096)}, asked, rounds=2)


def stored(peers: Peers) -> Group:
    """Half-precision weights, and llama.cpp's Q8_0, for which mlx has no directory of the same numbers here."""
    works = {"prefill of 512": Work(512), "decode after 32": Work(32, 32)}
    ours, half = peers.ours_as(None), [peers.llama(ftype) for ftype in ("F16", "BF16", "Q8_0")]
    names = tuple(each.name for each in half[:2])
    asked = [Asked("prefill of 512", "prefill", ours.name, names), Asked("decode after 32", "decode", ours.name, names)]
    return Group("Half-precision weights and Q8_0, in process, one thread.", [*half, ours], works, asked)


def threads(peers: Peers) -> Group:
    works = {"prefill of 512": Work(512), "decode after 32": Work(32, 48)}
    two = [peers.llama(ftype, 2) for ftype in ("Q4_0", "Q4_1")]
    asked = [
        Asked("decode after 32", "decode", TWO, (FAST,), 1.4),
        Asked("prefill of 512", "prefill", TWO, (FAST,), 1.6),
        *(Asked("decode after 32", "decode", TWO, (each.name,)) for each in two),
        *(Asked("prefill of 512", "prefill", TWO, (each.name,)) for each in two),
    ]
    contenders = [peers.llama("Q4_0"), peers.llama("Q4_1"), *two, peers.ours(), peers.ours(threads=2)]
    return Group("One and two threads, in process.", contenders, works, asked)


def mlx_lm(peers: Peers) -> Group:
    """The engine below, with its weights unpacked, with its own BLAS and with ours."""
    slow = peers.mlx_lm("unpacked to float32, as installed", "float32", shim=False)
    shimmed = peers.mlx_lm("unpacked to float32, with the shim", "float32", shim=True)
    asked = [Asked("16 + 8", phase, FAST, (peer.name,)) for phase in _PHASES for peer in (slow, shimmed)]
    contenders = [slow, shimmed, peers.ours(), peers.llama("Q4_0")]
    return Group("mlx-lm, the 4-bit directory, in process, one thread.", contenders, {"16 + 8": Work(16, 8)}, asked)


def mlx_lm_stored(peers: Peers) -> Group:
    """The engine below as pip brings it. It needs seconds for a token, so there is hardly any work."""
    installed = peers.mlx_lm("as installed", None, shim=False)
    asked = [Asked("4 + 2", phase, FAST, (installed.name,)) for phase in _PHASES]
    about = "mlx-lm as installed, the 4-bit directory as it is stored, in process, one thread."
    return Group(about, [installed, peers.ours()], {"4 + 2": Work(4, 2)}, asked)


_PHASES: tuple[Phase, ...] = ("prefill", "decode")


def _piped(work: str, prefill: float, decode: float) -> list[Asked]:
    """Ratios to llama.cpp's Q4_1 in process, and as far as they are known to Q4_0 and to ours before."""
    asked = [Asked(work, "prefill", PIPES, (Q4_1,), prefill), Asked(work, "decode", PIPES, (Q4_1,), decode)]
    return asked + [Asked(work, phase, PIPES, (peer,)) for peer in (Q4_0, PIPES_BEFORE) for phase in _PHASES]


def rpc(peers: Peers) -> Group:
    work = "512 + 32"
    contenders = [peers.llama("Q4_0"), peers.llama("Q4_1"), *peers.over_pipes()]
    return Group("Over pipes, against llama.cpp in process.", contenders, {work: Work(512, 32)}, _piped(work, 2.0, 1.2))


def rpc_4096(peers: Peers) -> Group:
    work = "4,096 + 16"
    contenders = [peers.llama("Q4_0"), peers.llama("Q4_1"), *peers.over_pipes()]
    asked = _piped(work, 1.8, 1.8)
    return Group("Over pipes, against llama.cpp in process.", contenders, {work: Work(4096, 16)}, asked, rounds=2)


def warm(peers: Peers) -> Group:
    """A hit is a reference to what is cached, so that it should take less than a copy."""
    work = "4,096 cached"
    ours = peers.over_pipes(warm=True)
    asked = [Asked(work, "prefill", each.name, (COPY,), 0.67 if each.name == PIPES else None) for each in ours]
    about = (
        "The first token of a prompt that is in the prefix cache, over pipes, against a copy in memory of its keys and "
        "values in float32: at most 1.5 times as long is asked."
    )
    return Group(about, [peers.copy(), *ours], {work: Work(4096)}, asked, rounds=9)


def cold(peers: Peers) -> Group:
    """The random model of 16M parameters; ours before needs three minutes for the long prompt."""
    directory, gguf = random_16m()
    works = {"4,096": Work(4096), "16,384": Work(16384)}
    asked = [
        Asked("16,384", "prefill", PIPES, (PIPES_BEFORE,), 8.0),
        *(Asked(work, "prefill", PIPES, (F32,)) for work in works),
    ]
    contenders = [peers.llama("F32", gguf=gguf), *peers.over_pipes(directory)]
    about = "Cold prefill of a random model of 16M parameters, over pipes, against llama.cpp in process."
    return Group(about, contenders, works, asked, rounds=1, within_s=600.0)


def by_depth(peers: Peers) -> Group:
    works = {f"{depth}": Work(depth, 8) for depth in DEPTHS}
    contenders = [peers.llama("Q4_0"), peers.llama("Q4_1"), peers.ours()]
    return Group("Speed against depth.", contenders, works, rounds=2, axis="tokens of the prompt")


def by_batch(peers: Peers) -> Group:
    works = {f"{rows}": Work(16, 8, rows=rows) for rows in BATCHES}
    return Group("Speed against rows.", _all(peers), works, rounds=3, axis="rows")


GROUPS: dict[str, Callable[[Peers], Group]] = {
    "prefill": prefill,
    "prefill-4096": prefill_4096,
    "decode": decode,
    "depth": depth,
    "batch": batch,
    "float32": float32,
    "float32-4096": float32_4096,
    "stored": stored,
    "threads": threads,
    "mlx-lm": mlx_lm,
    "mlx-lm-stored": mlx_lm_stored,
    "rpc": rpc,
    "rpc-4096": rpc_4096,
    "warm": warm,
    "cold": cold,
    "by-depth": by_depth,
    "by-batch": by_batch,
}
