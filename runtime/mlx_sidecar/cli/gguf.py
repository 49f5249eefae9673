"""Imports GGUF files under a progress bar: for ``models import``, and for ``--import`` of commands that run a model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from mlx_sidecar_protocol.errors import RpcError

from .failures import MODEL, Refused

if TYPE_CHECKING:
    from ..checkpoint.gguf.conversion import Imported
    from ..checkpoint.gguf.plan import Bits, DType


def import_to(path: Path, output: Path, requantize: Bits | None, dtype: DType | None) -> Imported:
    """Make the model directory ``output``. Raises ``Refused`` with the status of a model that cannot be had."""
    from ..checkpoint.gguf.conversion import import_gguf

    with _told(path) as on_bytes:
        return import_gguf(path, output, requantize=requantize, dtype=dtype, on_bytes=on_bytes)


def imported(model: str) -> str:
    """The directory in the user's cache that is made of a GGUF file; any other ``model`` as it is.

    Raises ``Refused``.
    """
    from ..checkpoint.gguf.import_cache import imported_once
    from ..front.api.local_models import own_folder
    from .terminal import note

    path = Path(model).expanduser()
    if path.suffix != ".gguf":
        return model
    with _told(path) as on_bytes:
        directory, roundings = imported_once(path, own_folder(), on_bytes=on_bytes)
    for rounding in roundings:
        if rounding.error:
            note(rounding.words)
    return str(directory)


@contextmanager
def _told(path: Path) -> Iterator[Callable[[int, int], None]]:
    """A callback that draws progress; errors of the import become ``Refused``."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    from .terminal import notes
    from .terminal_text import harmless

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=notes, transient=True, disable=not notes.is_terminal) as bar:
        task = bar.add_task(f"importing {harmless(path.name)}", total=None)

        def on_bytes(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        try:
            yield on_bytes
        except RpcError as error:
            raise Refused(error.message, MODEL) from error
