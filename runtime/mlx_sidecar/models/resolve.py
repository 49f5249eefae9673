"""From a model's name to its directory: the embedded pocket, a local directory, or a hub id. Used by the front."""

from __future__ import annotations

import io
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

POCKET = "pocket"
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
# What a model needs; weights as safetensors only, and never code.
_PATTERNS = ["*.json", "*.safetensors", "tokenizer.model", "*.txt", "*.jinja"]

OnBytes = Callable[[int, int], None]


def local(name: str, path: str | None = None, revision: str | None = None) -> Path:
    """The directory of a model that is already on this machine.

    ``path`` overrides what ``name`` would mean. A hub id resolves to the hub's local cache.

    Raises:
        ModelNotFound: nothing here answers to the name; the message says what was tried.
        InvalidParams: ``path`` is no model directory.
        UnsupportedParameter: ``revision`` of what is a directory.
    """
    directory = _pocket() if name == POCKET and path is None else _directory(name if path is None else path)
    if directory is not None:
        if revision is not None:
            raise UnsupportedParameter("revision", f"{directory} is a directory, which has no revisions")
        return directory
    if path is not None:
        raise InvalidParams.field("path", f"{path} is no directory with a config.json")
    if not is_hub_id(name):
        raise ModelNotFound(name, "it is neither a directory with a config.json nor a hub id like owner/name")
    return _cached(name, revision)


def _pocket() -> Path:
    from .. import pocket

    return pocket.PATH


def _directory(text: str) -> Path | None:
    """The model directory that ``text`` names, if it names one."""
    try:
        directory = Path(text).expanduser()
        return directory.resolve() if (directory / "config.json").is_file() else None
    except (OSError, RuntimeError):  # too long, not ours to look into, the home of nobody
        return None


def is_hub_id(name: str) -> bool:
    return _HUB_ID.fullmatch(name) is not None


def _cached(name: str, revision: str | None) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        found = Path(snapshot_download(name, revision=revision, allow_patterns=_PATTERNS, local_files_only=True))
    except HFValidationError as error:
        raise ModelNotFound(name, "the hub has no such names") from error
    except LocalEntryNotFoundError as error:
        raise ModelNotFound(name, "it is not in the local hub cache; load downloads it") from error
    if (missing := _missing(name, found)) is not None:
        raise ModelNotFound(name, f"it is not whole in the local hub cache ({missing}); load downloads the rest")
    return found


def _missing(name: str, snapshot: Path) -> str | None:
    """What the cache lacks of the weights, in words. Other tools leave a tokenizer there, or half a model."""
    from . import weights

    try:
        weights.inspect(name, str(snapshot))
    except ModelLoadFailed as error:
        return str(error.details["because"])
    except ModelUnsupported:
        return None  # there is nothing to wait for: the engine will say what is wrong
    return None


def download(name: str, revision: str | None, on_bytes: OnBytes) -> Path:
    """Fetch a hub model into the hub's cache and return its directory. Blocks: call it in a thread.

    ``on_bytes(done, total)`` is called from downloading threads; ``total`` grows while files are discovered.

    Raises:
        ModelNotFound: the hub knows no such model or revision, refuses it, or cannot be reached.
    """
    import huggingface_hub
    from huggingface_hub.errors import (
        GatedRepoError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        found = huggingface_hub.snapshot_download(
            name, revision=revision, allow_patterns=_PATTERNS, tqdm_class=_bar(on_bytes)
        )
    except GatedRepoError as error:
        raise ModelNotFound(name, "the hub wants a token with access to it (HF_TOKEN)") from error
    except RevisionNotFoundError as error:
        raise ModelNotFound(name, f"it has no revision {revision!r}") from error
    except RepositoryNotFoundError as error:
        raise ModelNotFound(name, "the hub does not know it") from error
    except (LocalEntryNotFoundError, OfflineModeIsEnabled) as error:
        offline = "HF_HUB_OFFLINE is set" if os.environ.get("HF_HUB_OFFLINE") else "the hub cannot be reached"
        raise ModelNotFound(name, f"{offline}, and it is not in the local hub cache") from error
    except (OSError, ValueError) as error:  # an HTTP failure halfway, a full disk, a malformed answer
        raise ModelNotFound(name, f"the download failed: {type(error).__name__}: {error}") from error
    return Path(found)


def _bar(on_bytes: OnBytes) -> type[Any]:
    """A progress bar that draws nothing. The hub client makes several; those that count bytes count the same ones,

    received and written, so the one that is ahead is reported.
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
