"""Imports parts of packages without what they bring and we do not need."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec, module_from_spec
from types import ModuleType


def bare_package(name: str) -> ModuleType:
    """Register top-level package ``name`` without executing it, so that ``import name.part`` loads only that part.

    Some packages import far more in ``__init__`` than the parts we use: jsonrpcserver brings jsonschema (160 ms),
    mlx_lm brings transformers (900 ms). Names that ``__init__`` defines are missing from the module, so this is for
    packages of which the process uses only named submodules. A package already imported, in full or bare, is left as
    it is. Raises ModuleNotFoundError if it is not installed.
    """
    if name in sys.modules:
        return sys.modules[name]
    spec = find_spec(name)
    if spec is None:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)
    module = module_from_spec(spec)
    sys.modules[name] = module
    return module


def without_pydantic_plugins() -> None:
    """Let pydantic, not imported yet, look for no plugins; no distribution brings one for our models.

    Looking through all installed packages takes a tenth of our start-up. Importing what would look, importlib.metadata
    with email and zipfile, takes 8 ms more, so a module without plugins stands in for pydantic's own loader.
    """
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")  # should a pydantic keep its loader elsewhere
    loader = ModuleType("pydantic.plugin._loader")
    loader.get_plugins = tuple  # type: ignore[attr-defined]
    sys.modules.setdefault(loader.__name__, loader)


def without_numpy_docs() -> None:
    """Let numpy, not imported yet, leave its functions in C without docstrings, which take a quarter of its import."""
    name = "numpy._core._add_newdocs"
    sys.modules.setdefault(name, ModuleType(name))


@contextmanager
def uncollected() -> Iterator[None]:
    """Imports in this block are not interrupted by collections of garbage, which would find none: modules stay.

    A tenth of the time of the front's imports is saved, a fourteenth of the engine's.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
