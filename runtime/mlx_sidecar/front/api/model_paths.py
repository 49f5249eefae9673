"""Model paths lead from a model's name to its directory: the embedded pocket, a local one, or a hub id's."""

from __future__ import annotations

import io
import logging
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mlx_sidecar_protocol.errors import (
    InvalidParams,
    ModelLoadFailed,
    ModelNotFound,
    ModelUnsupported,
    UnsupportedParameter,
)

from ...checkpoint.file_checks import FILE_LIMIT_BYTES, is_file
from ...checkpoint.file_numbers import in_short, shown

log = logging.getLogger(__name__)

POCKET = "pocket"
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_IMPORT = "`mlx-sidecar models import FILE --output DIR` makes a model directory of it, as does --import of chat"
# The files that a model needs; weights as safetensors only, and never code.
_PATTERNS = ["*.json", "*.safetensors", "tokenizer.model", "*.txt", "*.jinja"]

# One of them is needed to make texts into tokens.
_VOCABULARIES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt")

OnBytes = Callable[[int, int], None]
Inspect = Callable[[str, Path], object]


def _inspect_here(name: str, directory: Path) -> None:
    from ...checkpoint import model_directory as weights

    weights.inspect(name, str(directory))


def local(name: str, path: str | None = None, revision: str | None = None, *, inspect: Inspect = _inspect_here) -> Path:
    """The directory of a model that is already on this machine.

    ``path`` overrides ``name``. A hub id resolves to the hub's local cache; ``inspect`` looks into its files, and
    raises as ``weights.inspect``.

    Raises:
        ModelNotFound: nothing here answers to the name; the message names the places tried.
        ModelUnsupported: it is a file, or a directory, of weights in a format that is not read.
        InvalidParams: ``path`` is no model directory.
        UnsupportedParameter: ``revision`` of a directory.
    """
    text = name if path is None else path
    directory = _pocket() if name == POCKET and path is None else _directory(text)
    if directory is not None:
        if revision is not None:
            raise UnsupportedParameter("revision", f"{directory} is a directory, which has no revisions")
        return directory
    _refuse_other_formats(name, text)
    if path is not None:
        raise InvalidParams.field("path", f"{path} is no directory with a config.json")
    if not is_hub_id(name):
        raise ModelNotFound(name, "it is neither a directory with a config.json nor a hub id like owner/name")
    return _cached(name, revision, inspect)


def _pocket() -> Path:
    from ... import pocket

    return pocket.PATH


def _directory(text: str) -> Path | None:
    """The model directory that ``text`` names, if it names one."""
    try:
        directory = Path(text).expanduser()
        return directory.resolve() if (directory / "config.json").is_file() else None
    except (OSError, RuntimeError):  # too long, not ours to look into, the home of no user
        return None


def adapter_path(text: str | None) -> str | None:
    """An adapter's directory as the engine is told it: a leading ``~`` is a home."""
    try:
        return None if text is None else str(Path(text).expanduser())
    except RuntimeError:  # the home of no user
        return text


def _refuse_other_formats(name: str, text: str) -> None:
    """Raises ModelUnsupported where ``text`` names a file, or a directory that holds weights and no config.json."""
    try:
        there = Path(text).expanduser()
        if there.is_file():
            if there.suffix == ".gguf":
                raise ModelUnsupported(name, f"{shown(there.name)} is GGUF; {_IMPORT}")
            raise ModelUnsupported(name, f"{shown(there.name)} is a file; a model is a directory of safetensors")
        suffixes = {file.suffix for file in there.iterdir()} if there.is_dir() else set()
    except (OSError, RuntimeError):
        return
    if ".gguf" in suffixes and ".safetensors" not in suffixes:
        raise ModelUnsupported(name, f"{shown(str(there))} holds GGUF; {_IMPORT}")


def is_hub_id(name: str) -> bool:
    return _HUB_ID.fullmatch(name) is not None


def fetch(
    name: str, revision: str | None, found: Path | None, on_bytes: OnBytes, inspect: Inspect = _inspect_here
) -> Path:
    """Download ``name``; of a snapshot that was ``found``, and may lack files, just those. Blocks, as ``download``.

    Raises as ``download`` where nothing was found.
    """
    if found is None:
        return download(name, revision, on_bytes, inspect)
    try:
        return download(name, found.name, on_bytes, inspect)
    except ModelNotFound as error:
        log.warning("%s may lack files, and the hub does not say: %s", name, error.message)
        return found


def download(name: str, revision: str | None, on_bytes: OnBytes, inspect: Inspect = _inspect_here) -> Path:
    """Fetch a hub model into the hub's cache and return its directory. Blocks: call it in a thread.

    ``on_bytes(done, total)`` is called from downloading threads; ``total`` grows while files are discovered.

    Raises:
        ModelNotFound: the hub knows no such model or revision, refuses it, or cannot be reached.
        ModelLoadFailed: the hub's snapshot is not whole.
    """
    hub = hub_client(name)
    errors = hub.errors
    try:
        found = hub.snapshot_download(name, revision=revision, allow_patterns=_PATTERNS, tqdm_class=_bar(on_bytes))
    except errors.GatedRepoError as error:
        raise ModelNotFound(name, "the hub wants a token with access to it (HF_TOKEN)") from error
    except errors.RevisionNotFoundError as error:
        raise ModelNotFound(name, f"it has no revision {revision!r}") from error
    except errors.RepositoryNotFoundError as error:
        raise ModelNotFound(name, "the hub does not know it") from error
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled) as error:
        raise ModelNotFound(name, f"{_away(error)}, and it is not whole in the local hub cache") from error
    # An HTTP failure halfway, a full disk. At a malformed answer the client raises whatever it stumbles over:
    # AssertionError, KeyError, TypeError, and its HTTP library's own.
    except Exception as error:
        raise ModelNotFound(name, f"the download failed: {in_short(error)}") from error
    if (missing := _missing(name, Path(found), inspect)) is not None:
        raise ModelLoadFailed(name, f"the hub does not have all of it: {missing}")
    return Path(found)


def _away(error: Exception) -> str:
    """Why the hub did not help, in words."""
    answer = getattr(error.__cause__, "response", None)
    if answer is not None:
        return f"the hub answers with status {answer.status_code}"
    return "HF_HUB_OFFLINE is set" if os.environ.get("HF_HUB_OFFLINE") else "the hub cannot be reached"


def hub_client(name: str) -> Any:
    """The module huggingface_hub. Its import reads the environment, and raises where that makes no sense to it."""
    try:
        import huggingface_hub
        import huggingface_hub.errors

        huggingface_hub.snapshot_download  # noqa: B018  # it is imported lazily, with its own imports
    except (RuntimeError, ValueError, OSError, ImportError) as error:
        because = f"the hub's cache cannot be used ({in_short(error)}); HF_HOME says where it is"
        raise ModelNotFound(name, because) from error
    return huggingface_hub


def _cached(name: str, revision: str | None, inspect: Inspect) -> Path:
    hub = hub_client(name)
    errors = hub.errors
    try:
        found = hub.snapshot_download(name, revision=revision, allow_patterns=_PATTERNS, local_files_only=True)
    except errors.HFValidationError as error:
        raise ModelNotFound(name, "the hub has no such names") from error
    except errors.IncompleteSnapshotError as error:
        lacking = _missing(name, Path(error.snapshot_path), inspect) or in_short(error)
        raise ModelNotFound(name, _not_whole(lacking)) from error
    except errors.LocalEntryNotFoundError as error:
        raise ModelNotFound(name, "it is not in the local hub cache; load downloads it") from error
    except (OSError, RuntimeError, ValueError) as error:  # it is not ours to read, or holds nonsense
        raise ModelNotFound(name, f"the local hub cache cannot be read ({in_short(error)})") from error
    if (missing := _missing(name, Path(found), inspect)) is not None:
        raise ModelNotFound(name, _not_whole(missing))
    return Path(found)


def _not_whole(missing: str) -> str:
    return f"it is not whole in the local hub cache ({missing}); load downloads the rest"


def _missing(name: str, snapshot: Path, inspect: Inspect) -> str | None:
    """Why a snapshot is not whole, in words; None if it is. Other tools leave a tokenizer there, or half a model."""
    if not snapshot.is_dir():
        return "there are no files of it"
    try:
        if lost := sorted(file.name for file in snapshot.iterdir() if not file.exists()):  # links to nowhere
            return f"there is no {shown(lost[0])}"
        inspect(name, snapshot)
    except ModelLoadFailed as error:
        return str(error.details["because"])
    except ModelUnsupported:
        return None  # no file is lacking: the engine will name the fault
    if not any((snapshot / file).is_file() for file in _VOCABULARIES):
        return f"there is no {_VOCABULARIES[0]}"
    return None


def may_lack_files(directory: Path) -> bool:
    """Whether ``directory`` is a snapshot in the hub's cache that another tool left there, perhaps without a template.

    Where the hub's client took all of a model it keeps a list of its files; then nothing is missing.
    """
    if directory.parent.name != "snapshots" or (directory.parent.parent / "trees" / f"{directory.name}.json").exists():
        return False
    return not (directory / "tokenizer_config.json").exists() or not _has_template(directory)


def _has_template(directory: Path) -> bool:
    if any((directory / name).exists() for name in ("chat_template.jinja", "chat_template.json")):
        return True
    try:
        file = directory / "tokenizer_config.json"
        return is_file(file, FILE_LIMIT_BYTES, directory.name) and b'"chat_template"' in file.read_bytes()
    except (OSError, ModelLoadFailed):
        return False


def _bar(on_bytes: OnBytes) -> type[Any]:
    """A progress bar that draws nothing and reports bytes.

    The hub client makes several; those of bytes count the same ones, received and written: the one ahead is reported.
    """
    from tqdm import tqdm

    reported = 0

    class Bar(tqdm):  # type: ignore[type-arg]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            self._counts_bytes = kwargs.get("unit") == "B"
            super().__init__(*args, **{**kwargs, "file": io.StringIO(), "disable": False})

        def update(self, n: float | None = 1) -> bool | None:
            nonlocal reported
            self.n += n or 0
            if self._counts_bytes and self.n > reported:
                reported = int(self.n)
                on_bytes(reported, int(self.total or 0))
            return None

        def display(self, *args: Any, **kwargs: Any) -> None:
            pass

    return Bar
