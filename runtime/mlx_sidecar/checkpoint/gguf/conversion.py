"""Imports a GGUF file: makes a model directory as mlx-lm reads it, whole or not at all."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

from mlx_sidecar_protocol.errors import ModelLoadFailed

from .block_formats import GROUP, Floats
from .configs import architecture_of, config, sizes
from .header import GgufTensor, read_header
from .metadata import Metadata
from .plan import Bits, DType, Plan, plan
from .tokenizers import TokenizerFiles, rebuild
from .weights import OnBytes, Rounding, Writing, read_floats

# For the files beside the weights, of which tokenizer.json has at most some tens of megabytes.
_OTHER_FILES_BYTES = 64 * 2**20
_FACTORS_LIMIT = 1 << 16

Json = dict[str, Any]


class Imported(NamedTuple):
    """The result of an import. ``roundings`` tell for each format how it was stored, and with which error."""

    path: Path
    architecture: str
    weights_bytes: int
    roundings: tuple[Rounding, ...]


def import_gguf(
    path: Path,
    output: Path,
    *,
    requantize: Bits | None = None,
    dtype: DType | None = None,
    on_bytes: OnBytes | None = None,
) -> Imported:
    """Make the model directory ``output`` of the GGUF file ``path``.

    Memory is that of the vocabulary (250 MB for 262,144 tokens) and of a million weights. Runs nothing of the file.

    ``requantize``: the bits for formats that mlx's layout does not hold exactly, "auto" by the format; None refuses
    them. ``dtype`` of scales and of all that is not quantised; None takes the file's. ``on_bytes(done, total)`` is told
    how much of the file's weights is written.

    Raises ModelNotFound, ModelLoadFailed for a damaged file, a directory that is not empty and a full disk, and
    ModelUnsupported naming the key, tensor or format that is not known.
    """
    name = path.name
    if output.exists() and not (output.is_dir() and not any(output.iterdir())):
        raise ModelLoadFailed(name, f"{output} is there already")
    header = read_header(path, name)
    meta = Metadata(name, header.metadata)
    prefix, architecture = architecture_of(meta)
    tensors = {tensor.name: tensor for tensor in header.tensors}
    if (embedding := tensors.get("token_embd.weight")) is None:
        raise ModelLoadFailed(name, "token_embd.weight is missing")
    extents = sizes(meta, prefix, embedding.rows)
    planned = plan(name, tensors, architecture, extents, requantize, dtype)

    def factors(tensor: str) -> Floats | None:
        return _factors(name, path, tensors.get(f"{tensor}.weight"))

    described = config(meta, prefix, extents, factors, tied=planned.tied)
    described |= {flag: any(f"blk.0.{part}.bias" in tensors for part in parts)
                  for flag, parts in architecture.optional_biases.items()}  # fmt: skip
    tokenizer = rebuild(meta, described["max_position_embeddings"])
    if len(tokenizer.tokenizer["model"]["vocab"]) > extents.vocabulary:
        raise ModelLoadFailed(name, f"tokenizer.ggml.tokens has more tokens than the embedding's {extents.vocabulary}")
    files = _files(described, planned, tokenizer)
    weights_bytes = sum(each.nbytes for each in planned.planned)
    writing = Writing(name, path, planned, on_bytes)
    try:
        _write(name, output, files, writing, weights_bytes)
    except OSError as error:
        raise ModelLoadFailed(name, f"{output} cannot be written: {error.strerror or error}") from error
    return Imported(output, prefix, weights_bytes, tuple(writing.roundings.values()))


def _factors(name: str, path: Path, tensor: GgufTensor | None) -> Floats | None:
    if tensor is None:
        return None
    if len(tensor.shape) != 1 or tensor.columns > _FACTORS_LIMIT or tensor.format.dtype is None:
        raise ModelLoadFailed(name, f"{tensor.name} holds no factors of rotations")
    return read_floats(name, path, tensor)


def _files(described: Json, planned: Plan, tokenizer: TokenizerFiles) -> dict[str, Json]:
    """The JSON files of the directory, by name."""
    ends = tokenizer.ends
    tokens: Json = {}
    if "bos" in tokenizer.special:
        tokens["bos_token_id"] = tokenizer.special["bos"]
    if ends:
        tokens["eos_token_id"] = ends[0] if len(ends) == 1 else ends
    if "padding" in tokenizer.special:
        tokens["pad_token_id"] = tokenizer.special["padding"]
    return {
        "config.json": {**described, **tokens, "dtype": planned.dtype, **_quantization(planned)},
        "generation_config.json": tokens,
        "tokenizer.json": tokenizer.tokenizer,
        "tokenizer_config.json": tokenizer.settings,
    }


def _quantization(planned: Plan) -> Json:
    """How mlx-lm is told which layers are packed: the commonest bits for all, and others by name."""
    packed = {target.name.removesuffix(".weight"): target.bits for target in planned.targets if target.bits}
    if not packed:
        return {}
    ((bits, _),) = Counter(packed.values()).most_common(1)
    others = {name: {"group_size": GROUP, "bits": each} for name, each in packed.items() if each != bits}
    return {"quantization": {"group_size": GROUP, "bits": bits, **others}}


def _write(name: str, output: Path, files: dict[str, Json], writing: Writing, weights_bytes: int) -> None:
    """Write everything beside ``output``, then rename it: a directory of that name is never half made."""
    output.parent.mkdir(parents=True, exist_ok=True)
    needed, free = weights_bytes + _OTHER_FILES_BYTES, shutil.disk_usage(output.parent).free
    if needed > free:
        raise ModelLoadFailed(name, f"its directory needs {needed} bytes, the disk has {free}")
    with tempfile.TemporaryDirectory(prefix=f".{output.name}.importing-", dir=output.parent) as scratch:
        made = Path(scratch) / "model"  # with the user's own permissions, which the scratch directory does not have
        made.mkdir()
        for file, content in files.items():
            indent = None if file == "tokenizer.json" else 2
            (made / file).write_text(json.dumps(content, indent=indent, ensure_ascii=False) + "\n", encoding="utf-8")
        writing.run(made / "model.safetensors")
        made.rename(output)
