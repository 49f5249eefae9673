"""One change to a model directory, chosen by a seed. Files are made anew, so that their link targets stay."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

INDEX = "model.safetensors.index.json"
_NUMBERS: list[Any] = [0, 1, -1, 2, 3, 7, 255, 4097, 10**5, 10**7, 2**31 - 1, 2**31, 2**53, 2**63, 2**64, 10**31]
_NUMBERS += [10**400]
_ODD: list[Any] = [True, False, None, "", "x", "1", 1.5, 1e308, -1e-9, [], [1], [[]], {}, {"a": 1}, "M" * 300_000]
_ODD += [[0] * 10**5]
_NAMES: list[Any] = ["../x.safetensors", "/etc/passwd", "", ".", "missing.safetensors", "config.json", "a\0b"]
_NAMES += ["\ud800", 3, None, []]

Mutate = Callable[[Path, random.Random], str]


def mutate(directory: Path, seed: int) -> str:
    """Change ``directory``, and return the change in words."""
    chance = random.Random(seed)
    return chance.choice(_KINDS)(directory, chance)


def _write(file: Path, content: str | bytes) -> None:
    file.unlink(missing_ok=True)
    file.write_bytes(content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content)


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path] * bool(path) + [place for key, each in inner for place in _places(each, (*path, key))]


def _odd(chance: random.Random, value: Any) -> Any:
    if type(value) in (int, float) and chance.random() < 0.3:
        return value * chance.choice([-1, 2, 10, 1000, 10**6])
    return chance.choice(_NUMBERS if chance.random() < 0.6 else _ODD)


def _change(chance: random.Random, content: Any) -> str:
    path = chance.choice(_places(content))
    for key in path[:-1]:
        content = content[key]
    if chance.random() < 0.1:
        del content[path[-1]]
        return f"without {path}"
    content[path[-1]] = value = _odd(chance, content[path[-1]])
    return f"{path} = {repr(value)[:60]}"


def _json(name: str, extra: dict[str, Any]) -> Mutate:
    def change(directory: Path, chance: random.Random) -> str:
        file = directory / name
        content = {**extra, **(json.loads(file.read_bytes()) if file.exists() else {})}
        done = [_change(chance, content) for _ in range(chance.choice([1, 1, 1, 2]))]
        _write(file, json.dumps(content))
        return f"{name}: {'; '.join(done)}"

    return change


def _read(file: Path) -> tuple[dict[str, Any], bytes]:
    data = file.read_bytes()
    length = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def _safetensors(header: bytes, data: bytes) -> bytes:
    return len(header).to_bytes(8, "little") + header + data


def _header(directory: Path, chance: random.Random) -> str:
    file = directory / "model.safetensors"
    header, data = _read(file)
    name = chance.choice([key for key in header if key != "__metadata__"])
    done = chance.choice(["field", "axes", "many", "rename", "type", "long name", "twice"])
    if done == "field":
        done = _change(chance, header)
    elif done == "axes":
        header[name]["shape"] = [chance.choice([1, 2**31 - 1])] * chance.choice([9, 1000, 40000])
    elif done == "many":
        header |= {f"x.{n}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for n in range(20_000)}
    elif done == "rename":
        header[chance.choice(["", "x", "model", "model.layers.9999999.x", "\ud800", "a" * 10**6])] = header.pop(name)
    elif done == "type":
        header[name]["dtype"] = chance.choice(["F16", "U32", "I32", "U8", "F64", "F4", "x", "BOOL", "F8_E4M3"])
    elif done == "long name":
        header["n" * 2_000_000] = {"dtype": "F32", "shape": [0], "data_offsets": [len(data), len(data)]}
    text = json.dumps(header).encode("utf-8", "surrogatepass")
    if done == "twice":
        text = b'{"%s": %s, ' % (name.encode(), json.dumps(header[name]).encode()) + text[1:]
    _write(file, _safetensors(text, data))
    return f"header: {name} {done}"


def _bytes(directory: Path, chance: random.Random) -> str:
    file = directory / "model.safetensors"
    data = bytearray(file.read_bytes())
    if chance.random() < 0.3:
        del data[chance.randrange(len(data)) :]
    else:
        for _ in range(chance.randrange(1, 20)):
            data[chance.randrange(min(len(data), 4096))] = chance.randrange(256)
    _write(file, bytes(data))
    return "bytes of the weights"


def _index(directory: Path, chance: random.Random) -> str:
    header, data = _read(directory / "model.safetensors")
    header.pop("__metadata__", None)
    weight_map: Any = dict.fromkeys(header, "model.safetensors")
    names = list(weight_map)
    for _ in range(chance.randrange(3)):
        weight_map[chance.choice(names)] = chance.choice(_NAMES)
    if chance.random() < 0.2:
        weight_map[chance.choice(["x", "", "\ud800"])] = "model.safetensors"
    if chance.random() < 0.2:
        weight_map = chance.choice(_ODD)
    if chance.random() < 0.3:  # a second file of the same tensors, and nonsense for their numbers
        _write(directory / "model-00002-of-00002.safetensors", _safetensors(json.dumps(header).encode(), data[::-1]))
    _write(directory / INDEX, json.dumps({"weight_map": weight_map}))
    return "index"


def _planned(directory: Path, chance: random.Random) -> str:
    plan = {"bits": chance.choice([2, 3, 4, 8, *_NUMBERS]), "group_size": chance.choice([32, 64, *_NUMBERS])}
    plan |= {"mode": chance.choice(["affine", "mxfp4", "mxfp8", "nvfp4", "x", 3])} if chance.random() < 0.5 else {}
    content = json.loads((directory / "config.json").read_bytes())
    if chance.random() < 0.5:
        content["quantization"] = plan
    else:
        methods = ["awq", "gptq", "bitnet", "mxfp4", "fp8", "compressed-tensors", "modelopt", "x", 3, None]
        content["quantization_config"] = {"quant_method": chance.choice(methods), **plan}
        content.pop("quantization", None)
    _write(directory / "config.json", json.dumps(content))
    return f"quantization {plan}"


def _lost(directory: Path, chance: random.Random) -> str:
    file = chance.choice(sorted(directory.iterdir()))
    file.unlink()
    how = chance.choice(["lost", "empty", "a directory", "a link to nowhere", "no JSON"])
    if how == "empty":
        file.touch()
    elif how == "a directory":
        file.mkdir()
    elif how == "a link to nowhere":
        file.symlink_to("nowhere")
    elif how == "no JSON":
        file.write_bytes(chance.choice([b"[", b"\xff", b"[" * 100_000, b"{}", b"3", b'{"a":NaN}']))
    return f"{file.name} is {how}"


_KINDS: list[Mutate] = [
    *[_json("config.json", {})] * 6,
    _json("generation_config.json", {"eos_token_id": [0], "bos_token_id": 0, "pad_token_id": 0}),
    _json("tokenizer_config.json", {"model_max_length": 1024}),
    *[_header] * 3,
    _bytes,
    *[_index] * 2,
    *[_planned] * 2,
    _lost,
]
