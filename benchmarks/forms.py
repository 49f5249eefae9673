"""Forms of answers: which schemas of real functions can be compiled, and how long that takes.

    python -m benchmarks.forms compile [--data FOLDER]

The schemas are those of the functions in BFCL v4 (the ``bfcl-eval`` distribution, Apache-2.0), which pip downloads
into a temporary folder unless ``--data`` names the folder with its ``BFCL_v4_*.json``. They use Python's names of
types, which are renamed to those of JSON Schema.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mlx_sidecar.link.forms import JsonForm
from mlx_sidecar.text.forms.grammars import grammar_of
from mlx_sidecar_protocol.errors import InvalidParams

SETS = ("simple_python", "multiple", "parallel_multiple", "live_simple", "live_multiple", "live_parallel_multiple")
NO_CALL = "irrelevance"
TYPES = {
    "dict": "object", "HashMap": "object", "float": "number", "double": "number", "long": "integer", "tuple": "array",
    "Array": "array", "ArrayList": "array", "String": "string", "char": "string", "Boolean": "boolean",
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["compile"])
    parser.add_argument("--data", type=Path, help="the folder with BFCL_v4_*.json")
    options = parser.parse_args()
    with bfcl(options.data) as data:
        compile_all(data)


@contextmanager
def bfcl(data: Path | None) -> Iterator[Path]:
    """The folder with the questions of BFCL, downloaded if ``data`` is None."""
    if data is not None:
        yield data
        return
    with tempfile.TemporaryDirectory() as folder:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder, "bfcl-eval"]
        subprocess.run(pip, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        [wheel] = Path(folder).glob("*.whl")
        zipfile.ZipFile(wheel).extractall(folder)
        yield Path(folder) / "bfcl_eval" / "data"


def schemas(data: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The schema of each function, with the function's name."""
    for name in (*SETS, NO_CALL):
        for line in (data / f"BFCL_v4_{name}.json").read_text(encoding="utf-8").splitlines():
            for function in json.loads(line)["function"]:
                yield function["name"], as_json_schema(function["parameters"])


def as_json_schema(value: Any) -> Any:
    """``value`` with the names of types of JSON Schema, and without those and members that it does not have."""
    if isinstance(value, list):
        return [as_json_schema(part) for part in value]
    if not isinstance(value, dict):
        return value
    changed = {key: as_json_schema(part) for key, part in value.items() if key != "optional" or isinstance(part, dict)}
    if isinstance(type_ := changed.get("type"), str):
        changed["type"] = TYPES.get(type_, type_)
        if type_ in ("any", ""):
            del changed["type"]
    return changed


def compile_all(data: Path) -> None:
    """Print how many of the schemas can be compiled, why others cannot, and how long it takes."""
    grammar_of(JsonForm(b"{}", ["schema"], fixed=True))  # imports llguidance
    seconds: list[float] = []
    refused: list[str] = []
    for name, schema in schemas(data):
        form = JsonForm(json.dumps(schema).encode(), ["schema"], fixed=True)
        began = time.perf_counter()
        try:
            grammar_of(form)
        except InvalidParams as error:
            refused.append(f"{name}: {error}")
        seconds.append(time.perf_counter() - began)
    print(f"{len(seconds) - len(refused)} of {len(seconds)} schemas compile")
    at = statistics.quantiles(seconds, n=1000)
    print(f"ms: median {at[499] * 1e3:.2f}, 99 % {at[989] * 1e3:.2f}, longest {max(seconds) * 1e3:.1f}")
    for line in refused:
        print("refused:", line)


if __name__ == "__main__":
    main()
