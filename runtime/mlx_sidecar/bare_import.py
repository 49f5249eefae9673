"""Imports single modules of a package without running the package's own ``__init__``."""

from __future__ import annotations

import sys
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
