"""Keeps imported GGUF files in the user's cache directory, so that each is imported once."""

from __future__ import annotations

import hashlib
from pathlib import Path

from mlx_sidecar_protocol.errors import ModelLoadFailed, ModelNotFound

from .conversion import import_gguf
from .plan import Bits
from .weights import OnBytes, Rounding

# Of what imports write. A new version makes new directories.
_VERSION = 1
_NAME_LIMIT = 64


def imported_once(
    path: Path, cache: Path, *, requantize: Bits | None = "auto", on_bytes: OnBytes | None = None
) -> tuple[Path, tuple[Rounding, ...]]:
    """The model directory made of the GGUF file ``path``, below ``cache``; made now unless it is there.

    With it comes what became of the weights, if it was made now. A file that was changed or moved is imported anew.
    Raises as ``import_gguf``.
    """
    try:
        file = path.resolve(strict=True)
        found = file.stat()
    except OSError as error:
        raise ModelNotFound(path.name, "there is no such file") from error
    facts = (_VERSION, str(file), found.st_size, found.st_mtime_ns, requantize)
    key = hashlib.sha256(repr(facts).encode("utf-8", "surrogateescape")).hexdigest()[:16]
    output = cache / f"{file.stem[:_NAME_LIMIT]}-{key}"
    if output.is_dir():
        return output, ()
    try:
        made = import_gguf(file, output, requantize=requantize, on_bytes=on_bytes)
    except ModelLoadFailed:
        # Another process may have been first: a directory is there only when it is whole.
        if output.is_dir():
            return output, ()
        raise
    return made.path, made.roundings
