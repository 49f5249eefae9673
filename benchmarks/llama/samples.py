"""Rounds that have been measured, kept in a JSON file, to which further runs add theirs."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

from ..serving.figures import Ratio, ratio
from .work import Times, Work

Phase = Literal["prefill", "decode"]


@dataclass(frozen=True)
class Key:
    """A figure of a group: tokens per second of one phase of a work."""

    group: str
    work: str
    phase: Phase


class Chat(NamedTuple):
    """One round of chats: tokens per second, seconds to the slowest first token and between deltas."""

    tokens_per_s: float
    worst_first_s: float
    gaps_s: list[float]


@dataclass
class Samples:
    """``rounds``: by figure, a round each, by contender, tokens per second. ``facts``, ``absent``: by contender.

    ``chats``: by group, a round each, by contender.
    """

    machine: str
    rounds: dict[Key, list[dict[str, float]]] = field(default_factory=dict)
    facts: dict[str, dict[str, Any]] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)
    chats: dict[str, list[dict[str, Chat]]] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path, machine: str) -> Samples:
        """Return the samples in a file, or none. Raises ValueError for those of another machine."""
        if not path.is_file():
            return cls(machine)
        raw = json.loads(path.read_text())
        if raw["machine"] != machine:
            raise ValueError(f"{path} was measured on {raw['machine']}")
        rounds = {Key(each["group"], each["work"], each["phase"]): each["rounds"] for each in raw["figures"]}
        chats = {
            group: [{name: Chat(*chat) for name, chat in round_.items()} for round_ in each]
            for group, each in raw["chats"].items()
        }
        return cls(machine, rounds, raw["facts"], raw["absent"], chats)

    def write(self, path: Path) -> None:
        figures = [{**vars(key), "unit": "tokens/s", "rounds": rounds} for key, rounds in self.rounds.items()]
        told = {name: vars(self)[name] for name in ("machine", "facts", "absent", "chats")}
        path.write_text(json.dumps({**told, "figures": figures}, indent=1) + "\n")

    def add(self, group: str, name: str, work: Work, round_: dict[str, Times]) -> None:
        """Add one round of a work, by contender."""
        speeds: dict[Phase, dict[str, float]] = {"prefill": {}, "decode": {}}
        for contender, times in round_.items():
            if times.prefill_s is not None:
                speeds["prefill"][contender] = work.rows * work.prompt / times.prefill_s
            if times.decode_s is not None:
                speeds["decode"][contender] = work.rows * work.steps / times.decode_s
        for phase, found in speeds.items():
            if found:
                self.rounds.setdefault(Key(group, name, phase), []).append(found)

    def speeds(self, key: Key, contender: str) -> list[float]:
        """Tokens per second of each round that has it."""
        return [round_[contender] for round_ in self.rounds.get(key, []) if contender in round_]

    def compare(self, key: Key, ours: str, peer: str) -> Ratio | None:
        """Return ours to a peer's over the rounds that have both; None where there is none."""
        both = [(round_[ours], round_[peer]) for round_ in self.rounds.get(key, []) if {ours, peer} <= round_.keys()]
        return ratio(*zip(*both, strict=True)) if both else None

    def best(self, key: Key, peers: Sequence[str]) -> str:
        """Return the fastest of ``peers``: the same engine in several settings."""
        return max(peers, key=lambda peer: statistics.median(self.speeds(key, peer) or [0.0]))

    def contenders(self, group: str) -> Iterator[str]:
        """Yield those that have a figure of ``group``, in the order in which they first had one."""
        known = {
            name: None for key, rounds in self.rounds.items() if key.group == group for each in rounds for name in each
        }
        yield from known

    def keys(self, group: str) -> list[Key]:
        return [key for key in self.rounds if key.group == group]
