"""False headers of safetensors files and indices of shards."""

from __future__ import annotations

import json
import struct
from random import Random
from typing import Any

from .json_damage import damaged, odd, raw

Member = dict[str, Any]


def _tensor(dtype: Any, shape: Any, offsets: Any) -> Member:
    return {"t": {"dtype": dtype, "shape": shape, "data_offsets": offsets}}


HEADER: list[Member] = [
    _tensor("F32", [2147483647] * 40_000, [0, 0]),
    _tensor("F32", [2147483647] * 3, [0, 0]),
    _tensor("F32", [], [0, 4]),
    _tensor("F32", [0], [0, 0]),
    _tensor("F32", [-1], [0, 4]),
    _tensor("F32", [True], [0, 4]),
    _tensor("F32", [2**64], [0, 4]),
    _tensor("F32", [1], [4, 0]),
    _tensor("F32", [1], [-4, 0]),
    _tensor("F32", [1], [2**63, 2**63 + 4]),
    _tensor("F32", [1], [10**30, 10**30 + 4]),
    _tensor("F32", [1], [0, 4, 8]),
    _tensor("F99", [1], [0, 4]),
    _tensor(None, [1], [0, 4]),
    _tensor("F64", [1], [0, 8]),
    _tensor("F32", [1] * 1000, [0, 4]),
    {"": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}},
    {"t": []},
    {"__metadata__": {"format": raw("NaN")}},
    {"__metadata__": {"a": "x" * 1_000_000}},
    {"__metadata__": [1]},
    {f"t{n}": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]} for n in range(10_000)},
]

INDEX: list[Member] = [
    {"weight_map": {"model.embed_tokens.weight": name}}
    for name in (
        "../model.safetensors",
        "/dev/zero",
        "/etc/passwd",
        "",
        ".",
        "none.safetensors",
        "x" * 5000,
        "a\x00b",
        5,
    )
]
INDEX += [
    {"weight_map": {}},
    {"weight_map": []},
    {"weight_map": None},
    {"weight_map": {f"t{n}": "model.safetensors" for n in range(100_000)}},
    {"weight_map": {f"t{n}": f"{n}.safetensors" for n in range(10_000)}},
    {"metadata": {"total_size": 10**30}},
    {"metadata": {"total_size": -1}},
    {"metadata": None},
]


def mutated_header(pick: Random, data: bytes) -> bytes:
    """Return a safetensors file with another header, or another length of it."""
    (size,) = struct.unpack("<Q", data[:8])
    header, body = data[8 : 8 + size], data[8 + size :]
    match pick.random():
        case share if share < 0.15:
            sizes = (0, 1, size - 1, size + 1, len(data), 2**31, 2**32, 2**63, 2**64 - 1, 100_000_000)
            return struct.pack("<Q", pick.choice(sizes)) + header + body
        case share if share < 0.3:
            return data[: pick.choice((0, 1, 7, 8, 9, 8 + size, len(data) - 1, pick.randrange(len(data))))]
        case share if share < 0.4:
            body = body + bytes(pick.choice((1, 8, 1000)))
        case share if share < 0.5:
            header = written_over(pick, header)
        case _:
            header = damaged(pick, json.loads(header), HEADER).encode(errors="surrogatepass")
    return struct.pack("<Q", len(header)) + header + body


def written_over(pick: Random, header: bytes) -> bytes:
    """Replace numbers of the header by others, digit by digit."""
    digits = [at for at, byte in enumerate(header) if 48 <= byte <= 57]
    changed = bytearray(header)
    for at in pick.sample(digits, pick.randint(1, 4)):
        changed[at] = 48 + pick.randrange(10)
    return bytes(changed)


def mutated_index(pick: Random, header: bytes) -> str:
    """Return a damaged index of the tensors that ``header`` names."""
    names = [name for name in json.loads(header) if name != "__metadata__"]
    files: Member = dict.fromkeys(names, "model.safetensors")
    if pick.random() < 0.1:
        for name in pick.sample(names, 3):
            files[name] = odd(pick)
    return damaged(pick, {"metadata": {"total_size": 2_000_000}, "weight_map": files}, INDEX)
