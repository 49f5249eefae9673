"""Logits of a GGUF file by llama.cpp, and of the directory that is imported of it by mlx-lm, both in float32."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np

from mlx_sidecar.checkpoint.gguf.conversion import import_gguf
from mlx_sidecar.checkpoint.gguf.header import read_header
from mlx_sidecar.checkpoint.gguf.metadata import Metadata
from mlx_sidecar.checkpoint.gguf.tokenizers import rebuild

Logits = np.ndarray[Any, np.dtype[np.float32]]
_F32 = 0  # ggml's number of the type
_BINDINGS = "benchmarks.llama.library"
_TEXT = """The capital of France is Paris, which lies on the Seine. It has been a city for two thousand years, and more
than two million people live there today; many of them work in offices, schools and hospitals."""


class Difference(NamedTuple):
    """``error`` is the root of the mean square of all differences of logits, over that of llama.cpp's logits around
    their mean. ``same_first`` of ``positions`` have the same likeliest token."""

    error: float
    same_first: int
    positions: int


def compare(path: Path, tokens: Sequence[int], theirs: Path | None = None) -> Difference:
    """The difference over all of ``tokens``. llama.cpp is given ``theirs``, or the same file. Blocks.

    Raises LlamaError and NotFetched of ``benchmarks.llama``, and what ``import_gguf`` raises.
    """
    expected = by_llama(theirs or path, tokens)
    with tempfile.TemporaryDirectory() as folder:
        made = import_gguf(path, Path(folder) / "model", requantize="auto", dtype="float32")
        ours = by_mlx(made.path, tokens)
    centred = expected - expected.mean(axis=-1, keepdims=True)
    error = np.sqrt(np.square(ours - expected).mean() / np.square(centred).mean())
    same = int((ours.argmax(axis=-1) == expected.argmax(axis=-1)).sum())
    return Difference(float(error), same, len(tokens))


def text_tokens(path: Path) -> list[int]:
    """Tokens of a few plain sentences by the file's own tokenizer."""
    from tokenizers import Tokenizer

    meta = Metadata(path.name, read_header(path, path.name).metadata)
    return list(Tokenizer.from_str(json.dumps(rebuild(meta, 1).tokenizer)).encode(_TEXT).ids)


def unpacked(path: Path, folder: Path) -> Path:
    """The model of ``path`` as llama.cpp unpacks it to float32, in ``folder``."""
    library: Any = _library()
    library.quantize(path, folder / "float32.gguf", "F32")
    return folder / "float32.gguf"


@cache
def _library() -> Any:
    """llama.cpp in this process, once, because it keeps the address of a callback."""
    return import_module(_BINDINGS).open_library()


def by_mlx(directory: Path, tokens: Sequence[int]) -> Logits:
    """Logits [tokens, vocabulary] of a model directory, whose weights are unpacked to float32."""
    import mlx.core as mx
    from mlx.utils import tree_map
    from mlx_lm.utils import dequantize_model, load_model

    mx.set_default_device(mx.cpu)
    model = dequantize_model(load_model(directory)[0])
    model.update(tree_map(lambda each: each.astype(mx.float32), model.parameters()))
    return np.array(model(mx.array([list(tokens)]))[0].astype(mx.float32))


def by_llama(path: Path, tokens: Sequence[int]) -> Logits:
    """Logits [tokens, vocabulary] of a GGUF file, with keys and values in float32."""
    bindings = import_module(_BINDINGS)
    library = _library()
    model = library.load(path)
    params = library.context_default_params()
    params.n_ctx = params.n_batch = params.n_ubatch = params.n_outputs_max = max(len(tokens), 256)
    params.n_threads = params.n_threads_batch = 1
    params.type_k = params.type_v = _F32
    params.flash_attn_type = 0
    context = library.init_from_model(model, params)
    if context is None:
        raise bindings.LlamaError(f"no context for {path}")
    batch = library.batch_init(len(tokens), 0, 1)
    batch.n_tokens = len(tokens)
    for at, token in enumerate(tokens):
        batch.token[at], batch.pos[at], batch.n_seq_id[at], batch.seq_id[at][0], batch.logits[at] = token, at, 1, 0, 1
    if (status := library.decode(context, batch)) != 0:
        raise bindings.LlamaError(f"llama_decode returned {status}")
    library.synchronize(context)
    size = library.vocab_n_tokens(library.model_get_vocab(model))
    rows = [np.ctypeslib.as_array(library.get_logits_ith(context, at), (size,)).copy() for at in range(len(tokens))]
    library.batch_free(batch)
    library.free(context)
    return cast(Logits, np.stack(rows))
